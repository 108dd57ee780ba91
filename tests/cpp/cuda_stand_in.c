/* Stands in for the NVIDIA driver: GPU 0 of architecture 8.9 and GPU 1 of 12.0, or what the test
 * wants. */
int stand_in_cuda_status = 0;
int stand_in_cuda_count = 2;

int cuInit(unsigned flags) {
  (void)flags;
  return stand_in_cuda_status;
}

int cuDeviceGetCount(int* count) {
  *count = stand_in_cuda_count;
  return 0;
}

int cuDeviceGet(int* device, int index) {
  *device = 70 + index;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  const int is_first = device == 70;
  if (attribute == 75) *value = is_first ? 8 : 12;
  if (attribute == 76) *value = is_first ? 9 : 0;
  return 0;
}
