/* Invert a picture and write what was found, in C99.
 *
 *     hsrt_invert BUNDLE PICTURE.ppm RECONSTRUCTION.ppm [INVERSION.safetensors]
 *
 * Pictures are binary PPM, so that the example needs no decoder:
 * `convert face.png -depth 8 face.ppm` makes one.
 */
#include <hyperstyle_rt/hyperstyle_rt.h>
#include <stdio.h>
#include <stdlib.h>

/* Read a binary PPM of 8 bits into memory of malloc; the image's data is NULL if it is none. */
static hsrt_image read_ppm(const char* path) {
  hsrt_image image = {sizeof image, NULL, 0, 0, HSRT_RGB8, 0};
  int levels = 0;
  FILE* file = fopen(path, "rb");
  if (file == NULL) return image;
  if (fscanf(file, "P6 %d %d %d", &image.width, &image.height, &levels) == 3 && levels == 255 &&
      image.width > 0 && image.height > 0 && image.width < 65536 && image.height < 65536 &&
      fgetc(file) != EOF) {
    const size_t size = (size_t)image.width * (size_t)image.height * 3;
    image.data = malloc(size);
    if (image.data != NULL && fread(image.data, 1, size, file) != size) {
      free(image.data);
      image.data = NULL;
    }
  }
  fclose(file);
  return image;
}

static int write_ppm(const char* path, const hsrt_image* image) {
  const size_t size = (size_t)image->width * (size_t)image->height * 3;
  FILE* file = fopen(path, "wb");
  int written = 0;
  if (file == NULL) return 0;
  fprintf(file, "P6\n%d %d\n255\n", image->width, image->height);
  written = fwrite(image->data, 1, size, file) == size;
  return fclose(file) == 0 && written;
}

static int32_t show_progress(void* user, const hsrt_progress* progress) {
  (void)user;
  fprintf(stderr, "iteration %d of %d\n", progress->iteration, progress->iterations);
  return 0; /* go on */
}

/* Invert `picture`, write the results. */
static hsrt_status invert(const hsrt_model* model, hsrt_session* session, const hsrt_image* picture,
                          char** arguments, int count) {
  hsrt_invert_options options = {sizeof options, NULL, HSRT_ITERATIONS_DEFAULT, 0.0F, show_progress,
                                 NULL,           NULL};
  hsrt_model_info info;
  hsrt_inversion* inversion = NULL;
  hsrt_image result = {sizeof result, NULL, 0, 0, HSRT_RGB8, 0};
  hsrt_status status;
  info.struct_size = sizeof info;
  status = hsrt_model_get_info(model, &info);
  if (status == HSRT_OK) status = hsrt_session_invert(session, picture, &options, &inversion);
  if (status == HSRT_OK) {
    result.width = info.image_width;
    result.height = info.image_height;
    result.data = malloc((size_t)result.width * (size_t)result.height * 3);
    status = result.data == NULL ? HSRT_ERROR_MEMORY : hsrt_inversion_image(inversion, &result);
  }
  if (status == HSRT_OK && !write_ppm(arguments[3], &result)) {
    fprintf(stderr, "cannot write %s\n", arguments[3]);
  }
  if (status == HSRT_OK && count > 4) status = hsrt_inversion_save(inversion, arguments[4]);
  free(result.data);
  hsrt_inversion_free(inversion);
  return status;
}

int main(int count, char** arguments) {
  hsrt_model* model = NULL;
  hsrt_session* session = NULL;
  hsrt_image picture;
  hsrt_status status;
  if (count < 4) {
    fprintf(stderr, "usage: %s BUNDLE PICTURE.ppm RECONSTRUCTION.ppm [INVERSION.safetensors]\n",
            arguments[0]);
    return 2;
  }
  picture = read_ppm(arguments[2]);
  if (picture.data == NULL) {
    fprintf(stderr, "%s is no binary PPM of 8 bits\n", arguments[2]);
    return 2;
  }
  status = hsrt_model_load(HSRT_API_VERSION, arguments[1], NULL, &model);
  if (status == HSRT_OK) status = hsrt_session_create(model, &session);
  if (status == HSRT_OK) status = invert(model, session, &picture, arguments, count);
  if (status != HSRT_OK) {
    fprintf(stderr, "%s: %s\n", hsrt_status_name(status), hsrt_last_error());
  }
  hsrt_session_free(session);
  hsrt_model_free(model);
  free(picture.data);
  return status == HSRT_OK ? 0 : 2;
}
