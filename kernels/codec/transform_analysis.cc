#include "kernels/codec/transform_analysis.h"

#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>

namespace kdn::codec_internal {
namespace {

// Synthesis without the means, [channel][coefficient]: what a value of one whole step adds.
Eigen::MatrixXd Synthesis(const TransformBase& base) {
  Eigen::MatrixXd synthesis(base.width, base.rank);
  for (uint32_t i = 0; i < base.width; ++i) {
    for (uint32_t j = 0; j < base.rank; ++j) {
      synthesis(i, j) = double{kTransformValueUnits} * double{base.scales[i]} * base.matrix[size_t{i} * base.rank + j];
    }
  }
  return synthesis;
}

// An inverse this far from one says that the synthesis was singular to working precision.
constexpr double kMaxResidual = 1e-6;

Eigen::MatrixXd Invert(const Eigen::MatrixXd& synthesis) {
  if (synthesis.rows() == synthesis.cols()) {
    const Eigen::MatrixXd inverse = synthesis.partialPivLu().inverse();
    if (inverse.allFinite()) {
      const Eigen::VectorXd ones = Eigen::VectorXd::Ones(synthesis.rows());
      const Eigen::VectorXd back = inverse * (synthesis * ones);
      if ((back - ones).cwiseAbs().maxCoeff() < kMaxResidual) return inverse;
    }
  }
  return synthesis.completeOrthogonalDecomposition().pseudoInverse();
}

}  // namespace

std::vector<float> MakeTransformAnalysis(const TransformBase& base) {
  const Eigen::MatrixXd analysis = Invert(Synthesis(base));
  const uint32_t stride = TransformObject::AnalysisStride(base);
  std::vector<float> out(size_t{base.width} * stride);
  for (uint32_t i = 0; i < base.width; ++i) {
    for (uint32_t j = 0; j < base.rank; ++j) out[size_t{i} * stride + j] = static_cast<float>(analysis(j, i));
  }
  return out;
}

}  // namespace kdn::codec_internal
