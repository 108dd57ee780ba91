// Pictures in the caller's memory to and from the networks' floats; see imaging/pictures.py.
#pragma once

#include <cstddef>
#include <vector>

#include "hyperstyle_rt/hyperstyle_rt.h"
#include "manifest.hpp"

namespace hsrt {

// Refuse an image whose memory cannot be used. Throws Failure (ARGUMENT or PICTURE).
void check_image(const hsrt_image& image);

// A checked picture as the networks see it: planes [3,h,w], -1 to 1.
std::vector<float> to_input(const hsrt_image& picture, Size size);

// Write what the generator made, planes [3,H,W], into a checked image of this size.
void write_image(const float* planes, Size size, const hsrt_image& image);

// Resize RGB bytes [H,W,3] exactly as Pillow's resize(..., BILINEAR) up to 12.1: rows first.
std::vector<unsigned char> resize_bilinear(const std::vector<unsigned char>& image, Size from,
                                           Size to);

}  // namespace hsrt
