#ifndef KDN_KERNELS_BASE_HOST_DEVICE_H_
#define KDN_KERNELS_BASE_HOST_DEVICE_H_

// KDN_HD marks a function that the host compiler and nvcc both compile: the one place where the two differ.
#if defined(__CUDACC__)
#define KDN_HD __host__ __device__
#else
#define KDN_HD
#endif

#endif  // KDN_KERNELS_BASE_HOST_DEVICE_H_
