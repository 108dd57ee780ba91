#include "imaging.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "failure.hpp"

namespace hsrt {
namespace {

constexpr int64_t kMaxPixels = 120'000'000;  // as in file_types/common.py
constexpr int kMaxSide = 65'500;

// Pillow's 8-bit resampling: coefficients in fixed point, 8 bits of pixel, 2 of headroom in 32.
constexpr int kPrecisionBits = 32 - 8 - 2;

int channels(hsrt_format format) { return format == HSRT_RGBA8 ? 4 : 3; }

ptrdiff_t row_size(const hsrt_image& image) {
  const auto width = static_cast<ptrdiff_t>(image.width);
  if (image.format == HSRT_RGB_PLANES_F32) return width * static_cast<ptrdiff_t>(sizeof(float));
  return width * channels(image.format);
}

ptrdiff_t stride(const hsrt_image& image) {
  return image.stride == 0 ? row_size(image) : image.stride;
}

unsigned char* row(const hsrt_image& image, int y) {
  return static_cast<unsigned char*>(image.data) + y * stride(image);
}

float* plane_row(const hsrt_image& image, int channel, int y) {
  const ptrdiff_t plane = image.height * stride(image);
  return reinterpret_cast<float*>(row(image, y) + channel * plane);
}

std::string size_text(int width, int height) {
  return std::to_string(width) + " x " + std::to_string(height);
}

void check_size(const hsrt_image& image) {
  if (image.width < 1 || image.height < 1) {
    throw Failure(HSRT_ERROR_PICTURE, "the picture has no pixels (" +
                                          size_text(image.width, image.height) +
                                          "); give another one");
  }
  if (int64_t{image.width} * image.height > kMaxPixels ||
      std::max(image.width, image.height) > kMaxSide) {
    throw Failure(HSRT_ERROR_PICTURE,
                  "the picture has " + size_text(image.width, image.height) +
                      " pixels, more than the 120,000,000 (65,500 a side) allowed; scale it down "
                      "first");
  }
}

// Weights of the inputs from `first` on, for one output.
struct Taps {
  int first;
  std::vector<int32_t> weights;
};

// In Pillow's own order of operations, so that every rounding of the doubles agrees.
std::vector<Taps> triangle_taps(int samples, int size) {
  const double scale = static_cast<double>(samples) / size;
  const double reach = std::max(scale, 1.0);  // half the width of the triangle
  std::vector<Taps> taps;
  for (int output = 0; output < size; ++output) {
    const double centre = (output + 0.5) * scale;
    const int lower = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int upper = std::min(static_cast<int>(centre + reach + 0.5), samples);
    std::vector<double> triangle;
    double sum = 0.0;
    for (int input = lower; input < upper; ++input) {
      const double weight = 1.0 - std::abs((input - centre + 0.5) * (1.0 / reach));
      triangle.push_back(std::max(weight, 0.0));
      sum += triangle.back();
    }
    Taps fixed{lower, {}};
    for (const double weight : triangle) {
      fixed.weights.push_back(
          static_cast<int32_t>(std::floor(0.5 + weight / sum * (1 << kPrecisionBits))));
    }
    taps.push_back(std::move(fixed));
  }
  return taps;
}

// One output: bytes `step` apart, weighted, rounded and clipped as Pillow does.
unsigned char blend(const unsigned char* bytes, size_t step, const Taps& taps) {
  int64_t sum = int64_t{1} << (kPrecisionBits - 1);
  for (const int32_t weight : taps.weights) {
    sum += int64_t{weight} * *bytes;
    bytes += step;
  }
  return static_cast<unsigned char>(std::min<int64_t>(sum >> kPrecisionBits, 255));
}

// A transparent colour over white.
unsigned char over_white(int colour, int alpha) {
  return static_cast<unsigned char>((colour * alpha + 255 * (255 - alpha) + 127) / 255);
}

std::vector<unsigned char> to_rgb(const hsrt_image& picture) {
  std::vector<unsigned char> rgb(static_cast<size_t>(picture.width) * picture.height * 3);
  unsigned char* to = rgb.data();
  for (int y = 0; y < picture.height; ++y) {
    const unsigned char* from = row(picture, y);
    for (int x = 0; x < picture.width; ++x, from += channels(picture.format), to += 3) {
      for (int channel = 0; channel < 3; ++channel) {
        to[channel] = from[picture.format == HSRT_BGR8 ? 2 - channel : channel];
        if (picture.format == HSRT_RGBA8) to[channel] = over_white(to[channel], from[3]);
      }
    }
  }
  return rgb;
}

std::vector<float> planes_of(const hsrt_image& picture, Size size) {
  if (picture.width != size.width || picture.height != size.height) {
    throw Failure(HSRT_ERROR_PICTURE, "a picture of floats must have the model's input size, " +
                                          size_text(size.width, size.height) + ", not " +
                                          size_text(picture.width, picture.height) +
                                          "; resample it or give bytes");
  }
  std::vector<float> planes;
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < size.height; ++y) {
      const float* from = plane_row(picture, channel, y);
      planes.insert(planes.end(), from, from + size.width);
    }
  }
  if (!std::all_of(planes.begin(), planes.end(), [](float x) { return std::isfinite(x); })) {
    throw Failure(HSRT_ERROR_PICTURE, "the picture holds NaN or infinity; give another one");
  }
  return planes;
}

// The byte of a value the generator made: clipped, and truncated as the original does.
unsigned char level(float value) {
  const float unit = std::clamp((value + 1.0F) / 2.0F, 0.0F, 1.0F);
  return static_cast<unsigned char>(unit * 255.0F);
}

}  // namespace

void check_image(const hsrt_image& image) {
  if (image.struct_size != sizeof(hsrt_image)) {
    throw Failure(HSRT_ERROR_ARGUMENT, "hsrt_image.struct_size must be sizeof(hsrt_image), " +
                                           std::to_string(sizeof(hsrt_image)));
  }
  if (image.data == nullptr) {
    throw Failure(HSRT_ERROR_ARGUMENT, "hsrt_image.data is NULL; give the picture's memory");
  }
  if (image.format < HSRT_RGB8 || image.format > HSRT_RGB_PLANES_F32) {
    throw Failure(HSRT_ERROR_ARGUMENT,
                  "hsrt_image.format must be one of the hsrt_format values, not " +
                      std::to_string(image.format));
  }
  check_size(image);
  // Three planes must lie within what a pointer can be moved by.
  const ptrdiff_t longest = PTRDIFF_MAX / 3 / image.height;
  if (stride(image) > longest || stride(image) < -longest) {
    throw Failure(HSRT_ERROR_ARGUMENT, "hsrt_image.stride is longer than memory; count bytes");
  }
  if (std::abs(stride(image)) < row_size(image)) {
    throw Failure(HSRT_ERROR_ARGUMENT,
                  "hsrt_image.stride is shorter than a row; count bytes, not pixels");
  }
  if (image.format != HSRT_RGB_PLANES_F32) return;
  const auto address = reinterpret_cast<uintptr_t>(image.data);
  if (stride(image) < 0 || stride(image) % alignof(float) != 0 || address % alignof(float) != 0) {
    throw Failure(HSRT_ERROR_ARGUMENT,
                  "the rows of a float image must be aligned to floats, and its stride positive");
  }
}

std::vector<float> to_input(const hsrt_image& picture, Size size) {
  if (picture.format == HSRT_RGB_PLANES_F32) return planes_of(picture, size);
  const std::vector<unsigned char> rgb =
      resize_bilinear(to_rgb(picture), {picture.height, picture.width}, size);
  const size_t pixels = static_cast<size_t>(size.width) * size.height;
  std::vector<float> planes(3 * pixels);
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    for (size_t channel = 0; channel < 3; ++channel) {  // ToTensor and Normalize(0.5, 0.5)
      const float unit = static_cast<float>(rgb[3 * pixel + channel]) / 255.0F;
      planes[channel * pixels + pixel] = (unit - 0.5F) / 0.5F;
    }
  }
  return planes;
}

void write_image(const float* planes, Size size, const hsrt_image& image) {
  const size_t pixels = static_cast<size_t>(size.width) * size.height;
  if (!std::all_of(planes, planes + 3 * pixels, [](float x) { return std::isfinite(x); })) {
    throw Failure(HSRT_ERROR_PICTURE,
                  "the generator drew values that are not finite; use smaller latents");
  }
  for (int y = 0; y < size.height; ++y) {
    for (int channel = 0; channel < 3; ++channel) {
      const float* from = planes + channel * pixels + static_cast<size_t>(y) * size.width;
      if (image.format == HSRT_RGB_PLANES_F32) {
        std::copy_n(from, size.width, plane_row(image, channel, y));
        continue;
      }
      unsigned char* to = row(image, y) + (image.format == HSRT_BGR8 ? 2 - channel : channel);
      for (int x = 0; x < size.width; ++x) to[x * channels(image.format)] = level(from[x]);
    }
    if (image.format == HSRT_RGBA8) {
      for (int x = 0; x < size.width; ++x) row(image, y)[4 * x + 3] = 255;
    }
  }
}

std::vector<unsigned char> resize_bilinear(const std::vector<unsigned char>& image, Size from,
                                           Size to) {
  std::vector<unsigned char> rows = image;
  if (from.width != to.width) {
    const std::vector<Taps> taps = triangle_taps(from.width, to.width);
    rows.clear();
    for (int y = 0; y < from.height; ++y) {
      const unsigned char* start = image.data() + static_cast<size_t>(y) * from.width * 3;
      for (const Taps& tap : taps) {
        for (int c = 0; c < 3; ++c) rows.push_back(blend(start + tap.first * 3 + c, 3, tap));
      }
    }
  }
  if (from.height == to.height) return rows;
  const size_t row_bytes = static_cast<size_t>(to.width) * 3;
  std::vector<unsigned char> resized;
  for (const Taps& tap : triangle_taps(from.height, to.height)) {
    const unsigned char* start = rows.data() + tap.first * row_bytes;
    for (size_t byte = 0; byte < row_bytes; ++byte) {
      resized.push_back(blend(start + byte, row_bytes, tap));
    }
  }
  return resized;
}

}  // namespace hsrt
