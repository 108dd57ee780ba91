/* Print the layout of every structure and the value of every constant of the C header, as C99. */
#include <hyperstyle_rt/hyperstyle_rt.h>
#include <stdio.h>

#define STRUCT(type) printf("%s %u\n", #type, (unsigned)sizeof(type))
#define FIELD(type, field)                                                 \
  printf("%s.%s %u +%u\n", #type, #field, (unsigned)offsetof(type, field), \
         (unsigned)sizeof(((type*)0)->field))
#define VALUE(name) printf("%s %d\n", #name, (int)name)

static void print_values(void) {
  VALUE(HSRT_API_VERSION);
  VALUE(HSRT_OK);
  VALUE(HSRT_ERROR_ARGUMENT);
  VALUE(HSRT_ERROR_VERSION);
  VALUE(HSRT_ERROR_PICTURE);
  VALUE(HSRT_ERROR_BUNDLE);
  VALUE(HSRT_ERROR_INVERSION);
  VALUE(HSRT_ERROR_BACKEND);
  VALUE(HSRT_ERROR_ABORTED);
  VALUE(HSRT_ERROR_MEMORY);
  VALUE(HSRT_ERROR_INTERNAL);
  VALUE(HSRT_LOG_DEBUG);
  VALUE(HSRT_LOG_INFO);
  VALUE(HSRT_LOG_WARNING);
  VALUE(HSRT_LOG_ERROR);
  VALUE(HSRT_RGB8);
  VALUE(HSRT_BGR8);
  VALUE(HSRT_RGBA8);
  VALUE(HSRT_RGB_PLANES_F32);
  VALUE(HSRT_PROVIDER_CPU);
  VALUE(HSRT_PROVIDER_CUDA);
  VALUE(HSRT_PROVIDER_TENSORRT);
  VALUE(HSRT_PRECISION_FP32);
  VALUE(HSRT_PRECISION_FP16);
  VALUE(HSRT_OPTIMISE_ALL);
  VALUE(HSRT_OPTIMISE_EXTENDED);
  VALUE(HSRT_OPTIMISE_BASIC);
  VALUE(HSRT_OPTIMISE_NONE);
  VALUE(HSRT_ITERATIONS_DEFAULT);
  VALUE(HSRT_NO_ITERATIONS);
}

static void print_inputs(void) {
  STRUCT(hsrt_image);
  FIELD(hsrt_image, struct_size);
  FIELD(hsrt_image, data);
  FIELD(hsrt_image, width);
  FIELD(hsrt_image, height);
  FIELD(hsrt_image, format);
  FIELD(hsrt_image, stride);
  STRUCT(hsrt_model_options);
  FIELD(hsrt_model_options, struct_size);
  FIELD(hsrt_model_options, provider);
  FIELD(hsrt_model_options, device);
  FIELD(hsrt_model_options, threads);
  FIELD(hsrt_model_options, precision);
  FIELD(hsrt_model_options, optimisation);
  STRUCT(hsrt_buffer);
  FIELD(hsrt_buffer, name);
  FIELD(hsrt_buffer, data);
  FIELD(hsrt_buffer, size);
  STRUCT(hsrt_invert_options);
  FIELD(hsrt_invert_options, struct_size);
  FIELD(hsrt_invert_options, method);
  FIELD(hsrt_invert_options, iterations);
  FIELD(hsrt_invert_options, until);
  FIELD(hsrt_invert_options, progress);
  FIELD(hsrt_invert_options, abort);
  FIELD(hsrt_invert_options, user);
}

static void print_outputs(void) {
  STRUCT(hsrt_model_info);
  FIELD(hsrt_model_info, struct_size);
  FIELD(hsrt_model_info, name);
  FIELD(hsrt_model_info, domain);
  FIELD(hsrt_model_info, license);
  FIELD(hsrt_model_info, space);
  FIELD(hsrt_model_info, digest);
  FIELD(hsrt_model_info, provider);
  FIELD(hsrt_model_info, image_width);
  FIELD(hsrt_model_info, image_height);
  FIELD(hsrt_model_info, input_width);
  FIELD(hsrt_model_info, input_height);
  FIELD(hsrt_model_info, latent_rows);
  FIELD(hsrt_model_info, latent_width);
  FIELD(hsrt_model_info, code_rows);
  FIELD(hsrt_model_info, code_width);
  FIELD(hsrt_model_info, method_count);
  FIELD(hsrt_model_info, default_method);
  STRUCT(hsrt_method_info);
  FIELD(hsrt_method_info, struct_size);
  FIELD(hsrt_method_info, name);
  FIELD(hsrt_method_info, iterations);
  STRUCT(hsrt_progress);
  FIELD(hsrt_progress, struct_size);
  FIELD(hsrt_progress, iteration);
  FIELD(hsrt_progress, iterations);
  FIELD(hsrt_progress, rendering);
  FIELD(hsrt_progress, codes);
}

int main(void) {
  print_values();
  print_inputs();
  print_outputs();
  return 0;
}
