#ifndef KDN_KERNELS_CODEC_TRANSFORM_ANALYSIS_H_
#define KDN_KERNELS_CODEC_TRANSFORM_ANALYSIS_H_

#include <vector>

#include "kernels/codec/transform_object.h"

// Internal to kernels/codec.

namespace kdn::codec_internal {

// TransformObject::Analysis of `base`, in fp64, rounded once.
std::vector<float> MakeTransformAnalysis(const TransformBase& base);

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_TRANSFORM_ANALYSIS_H_
