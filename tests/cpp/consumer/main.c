#include <hyperstyle_rt/hyperstyle_rt.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  hsrt_model* model = NULL;
  const hsrt_status status = hsrt_model_load(HSRT_API_VERSION, "no such bundle", NULL, &model);
  printf("hyperstyle-rt %s on ONNX Runtime %s: %s\n", hsrt_version(), hsrt_onnxruntime_version(),
         hsrt_last_error());
  return status == HSRT_ERROR_BUNDLE && strstr(hsrt_last_error(), "no directory") ? 0 : 1;
}
