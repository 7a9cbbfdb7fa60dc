#include "kernels/codec/transform_object.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "kernels/base/status.h"
#include "kernels/codec/transform_analysis.h"
#include "kernels/format/calibration_object.h"

namespace kdn {
namespace {

constexpr uint8_t kShapeGeneralisedGaussian = 0;
constexpr size_t kAlignment = 16;
constexpr float kMinScale = 0x1p-100f;
constexpr float kMaxScale = 0x1p60f;
constexpr uint32_t kMaxBases = 2;

bool SameGeometry(const LayerSpec& a, const LayerSpec& b) {
  return a.attention == b.attention && a.window == b.window && a.num_kv_heads == b.num_kv_heads &&
         a.k_head_dim == b.k_head_dim && a.v_head_dim == b.v_head_dim;
}

std::span<const int8_t> AsSigned(ByteSpan bytes) {
  return {reinterpret_cast<const int8_t*>(bytes.data()), bytes.size()};
}

bool HoldsKind(TransformBaseKind base, KvKind kind) {
  return base == TransformBaseKind::kJoint || base == static_cast<TransformBaseKind>(kind);
}

}  // namespace

struct TransformObject::LazyAnalysis {
  absl::Mutex mutex;
  std::vector<float> matrix ABSL_GUARDED_BY(mutex);
};

TransformObject::TransformObject() = default;
TransformObject::~TransformObject() = default;

uint32_t TransformBase::CodedCoefficients(int32_t exponent) const {
  const auto end = std::partition_point(sigmas.begin(), sigmas.end(),
                                        [exponent](int8_t sigma) { return TransformContext(sigma, exponent) >= 0; });
  return static_cast<uint32_t>(end - sigmas.begin());
}

uint32_t TransformGroup::width() const {
  uint32_t channels = 0;
  for (const TransformBase& base : bases) channels += base.width;
  return channels;
}

// Reads the object's own copy of the bytes, which its spans refer to.
class TransformObject::Parser {
 public:
  Parser(TransformObject& object, const ModelSpec& spec)
      : object_(object), spec_(spec), in_(object.bytes_), taken_(spec.layers.size() * kMaxKvHeads) {}

  absl::Status Run() {
    KDN_RETURN_IF_ERROR(ReadHeader());
    for (uint32_t i = 0; i < levels_; ++i) KDN_RETURN_IF_ERROR(ReadLevel(i));
    object_.groups_.reserve(groups_);
    for (uint32_t i = 0; i < groups_; ++i) {
      KDN_RETURN_IF_ERROR(Annotate(ReadGroup(), StrCat("transform object: group ", i)));
    }
    if (in_.remaining() != 0) return InvalidArgument("transform object: ", in_.remaining(), " bytes behind its end");
    return absl::OkStatus();
  }

 private:
  absl::Status Truncated() const { return InvalidArgument("truncated after ", object_.bytes_.size(), " bytes"); }

  bool SkipZeros(size_t count) {
    const ByteSpan bytes = in_.Bytes(count);
    return in_.ok() && std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
  }
  bool SkipPadding() { return SkipZeros(AlignUp(in_.offset(), kAlignment) - in_.offset()); }

  absl::Status ReadHeader() {
    if (in_.U32() != kCalibrationMagic) return InvalidArgument("transform object: wrong magic");
    const uint16_t version = in_.U16();
    const uint8_t kind = in_.U8();
    const uint8_t shape = in_.U8();
    const std::optional<Digest> fingerprint = Digest::FromBytes(in_.Bytes(Digest::kBytes));
    groups_ = in_.U16();
    levels_ = in_.U16();
    object_.queries_per_head_ = in_.U16();
    const bool zeros = SkipZeros(2);
    if (!in_.ok()) return InvalidArgument("transform object: truncated after ", object_.bytes_.size(), " bytes");
    if (version != kCalibrationVersion || kind != static_cast<uint8_t>(CalibrationKind::kTransform) ||
        shape != kShapeGeneralisedGaussian) {
      return Unimplemented("calibration object of version ", version, ", kind ", kind, ", shape ", shape);
    }
    object_.fingerprint_ = FingerprintOf(spec_);
    if (*fingerprint != object_.fingerprint_) {
      return FailedPrecondition("transform object is for model ", fingerprint->ToShortHex(), ", not ",
                                object_.fingerprint_.ToShortHex());
    }
    if (groups_ < 1 || groups_ > kMaxTransformGroups || levels_ < 1 || levels_ > kMaxTransformLevels ||
        object_.queries_per_head_ > kMaxTransformQueries || !zeros) {
      return InvalidArgument("transform object: ", groups_, " groups, ", levels_, " levels, ",
                             object_.queries_per_head_, " queries or a reserved byte out of range");
    }
    return absl::OkStatus();
  }

  absl::Status ReadLevel(uint32_t index) {
    TransformLevel level;
    level.ratio_tenths = in_.U16();
    level.step = static_cast<int16_t>(in_.U16());
    level.kl_micronats = in_.U32();
    const bool zeros = SkipZeros(8);
    if (!in_.ok()) return InvalidArgument("transform object: truncated in level ", index);
    const bool ascending = level.ratio_tenths > (index == 0 ? 0 : object_.levels_.back().ratio_tenths);
    if (!ascending || std::abs(level.step) > kTransformMaxStep || !zeros) {
      return InvalidArgument("transform object: level ", index, " has ratio ", level.ratio_tenths, ", step ",
                             level.step, " or set reserved bytes");
    }
    object_.levels_.push_back(level);
    return absl::OkStatus();
  }

  absl::Status ReadGroup() {
    TransformGroup group;
    group.layer = in_.U16();
    group.layer_count = in_.U8();
    const uint32_t bases = in_.U8();
    group.head_begin = in_.U16();
    group.head_count = in_.U16();
    const bool zeros = SkipZeros(8);
    if (!in_.ok()) return Truncated();
    if (bases < 1 || bases > kMaxBases || !zeros) return InvalidArgument(bases, " bases or set reserved bytes");
    KDN_RETURN_IF_ERROR(CheckScope(group));
    const LayerSpec& model = spec_.layers[group.layer];
    group.k_dim = model.k_head_dim;
    group.v_dim = model.v_head_dim;
    for (uint32_t i = 0; i < bases; ++i) KDN_RETURN_IF_ERROR(Annotate(ReadBase(group), StrCat("base ", i)));
    KDN_RETURN_IF_ERROR(CheckBases(group));
    KDN_RETURN_IF_ERROR(ReadQueries(group));
    object_.groups_.push_back(std::move(group));
    return absl::OkStatus();
  }

  absl::Status CheckScope(const TransformGroup& group) {
    if (group.layer_count < 1 || group.layer + group.layer_count > spec_.layers.size()) {
      return InvalidArgument("layers [", group.layer, ", +", group.layer_count, ") of ", spec_.layers.size());
    }
    const LayerSpec& first = spec_.layers[group.layer];
    if (group.head_count < 1 || group.head_begin + group.head_count > first.num_kv_heads) {
      return InvalidArgument("heads [", group.head_begin, ", +", group.head_count, ") of ", first.num_kv_heads);
    }
    const auto place = [](const TransformGroup& g) { return std::pair(g.layer, g.head_begin); };
    if (!object_.groups_.empty() && place(object_.groups_.back()) >= place(group)) {
      return InvalidArgument("layer ", group.layer, ", head ", group.head_begin, " is out of order");
    }
    for (uint32_t layer = group.layer; layer < group.layer + group.layer_count; ++layer) {
      if (!SameGeometry(spec_.layers[layer], first)) {
        return InvalidArgument("layers ", group.layer, " and ", layer, " differ in heads, dims or attention");
      }
      for (uint32_t head = group.head_begin; head < group.head_begin + group.head_count; ++head) {
        if (taken_[size_t{layer} * kMaxKvHeads + head]) {
          return InvalidArgument("layer ", layer, ", head ", head, " is in two groups");
        }
        taken_[size_t{layer} * kMaxKvHeads + head] = true;
      }
    }
    return absl::OkStatus();
  }

  static absl::Status MakeSlices(const TransformGroup& group, TransformBase& base) {
    const uint64_t layer_channels = uint64_t{group.head_count} * ((HoldsKind(base.kind, KvKind::kK) ? group.k_dim : 0) +
                                                                  (HoldsKind(base.kind, KvKind::kV) ? group.v_dim : 0));
    const uint64_t width = layer_channels * group.layer_count;
    if (width < 1 || width > kTransformMaxWidth) {
      return InvalidArgument(width, " channels, not 1..", kTransformMaxWidth);
    }
    for (uint32_t layer = group.layer; layer < group.layer + group.layer_count; ++layer) {
      for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
        if (!HoldsKind(base.kind, kind)) continue;
        const uint32_t dim = kind == KvKind::kK ? group.k_dim : group.v_dim;
        for (uint32_t head = group.head_begin; head < group.head_begin + group.head_count; ++head) {
          base.slices.push_back({layer, head, kind, base.width, dim});
          base.width += dim;
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadBase(TransformGroup& group) {
    TransformBase base;
    const uint32_t kind = in_.U8();
    bool zeros = SkipZeros(1);
    base.rank = in_.U16();
    zeros = SkipZeros(12) && zeros;
    if (!in_.ok()) return Truncated();
    if (kind > 2 || !zeros) return InvalidArgument("kind ", kind, " or set reserved bytes");
    base.kind = static_cast<TransformBaseKind>(kind);
    KDN_RETURN_IF_ERROR(MakeSlices(group, base));
    if (base.rank < 1 || base.rank > base.width) return InvalidArgument("rank ", base.rank, " of ", base.width);
    const uint64_t bytes = uint64_t{8} * base.width + base.rank + uint64_t{base.width} * base.rank;
    if (bytes > in_.remaining()) return Truncated();
    base.means.resize(base.width);
    for (float& mean : base.means) mean = in_.F32();
    base.scales.resize(base.width);
    for (float& scale : base.scales) scale = in_.F32();
    base.sigmas = AsSigned(in_.Bytes(base.rank));
    base.matrix = AsSigned(in_.Bytes(size_t{base.width} * base.rank));
    if (!SkipPadding()) return InvalidArgument("truncated or set padding");
    KDN_RETURN_IF_ERROR(CheckValues(base));
    MakePairs(base);
    group.bases.push_back(std::move(base));
    return absl::OkStatus();
  }

  static absl::Status CheckValues(const TransformBase& base) {
    for (uint32_t i = 0; i < base.width; ++i) {
      const float scale = base.scales[i];
      const bool scale_ok = FloatBits(scale) == 0 || (scale >= kMinScale && scale <= kMaxScale);
      if (!std::isfinite(base.means[i]) || !scale_ok) {
        return InvalidArgument("mean or scale of channel ", i, " out of range");
      }
    }
    if (!std::is_sorted(base.sigmas.rbegin(), base.sigmas.rend())) return InvalidArgument("sigmas do not descend");
    if (std::find(base.matrix.begin(), base.matrix.end(), int8_t{-128}) != base.matrix.end()) {
      return InvalidArgument("a matrix entry is -128");
    }
    return absl::OkStatus();
  }

  static void MakePairs(TransformBase& base) {
    base.pairs.resize(CeilDiv(base.rank, 2) * base.width * 2);
    for (uint32_t i = 0; i < base.width; ++i) {
      const int8_t* row = base.matrix.data() + size_t{i} * base.rank;
      for (uint32_t j = 0; j < base.rank; ++j) base.pairs[(size_t{j / 2} * base.width + i) * 2 + j % 2] = row[j];
    }
  }

  static absl::Status CheckBases(const TransformGroup& group) {
    const auto is = [&](size_t base, TransformBaseKind kind) { return group.bases[base].kind == kind; };
    const bool covered = group.bases.size() == 2
                             ? is(0, TransformBaseKind::kK) && is(1, TransformBaseKind::kV)
                             : is(0, group.v_dim == 0 ? TransformBaseKind::kK : TransformBaseKind::kJoint);
    return covered ? absl::OkStatus() : InvalidArgument("bases do not cover K and V once");
  }

  absl::Status ReadQueries(TransformGroup& group) {
    const uint64_t elements = uint64_t{object_.queries_per_head_} * group.layer_count * group.head_count * group.k_dim;
    if (2 * elements > in_.remaining()) return Truncated();
    group.queries = in_.Bytes(2 * elements);
    for (uint64_t i = 0; i < elements; ++i) {
      if ((LoadLe<uint16_t>(group.queries.data() + 2 * i) & 0x7f80) == 0x7f80) {
        return InvalidArgument("query element ", i, " is not finite");
      }
    }
    return SkipPadding() ? absl::OkStatus() : InvalidArgument("truncated or set padding behind the queries");
  }

  TransformObject& object_;
  const ModelSpec& spec_;
  ByteReader in_;
  uint32_t groups_ = 0;
  uint32_t levels_ = 0;
  std::vector<bool> taken_;  // [layer][head]
};

absl::StatusOr<std::shared_ptr<const TransformObject>> TransformObject::Parse(ByteSpan bytes, const ModelSpec& spec) {
  if (bytes.size() > kMaxTransformObjectBytes) return InvalidArgument("transform object: ", bytes.size(), " bytes");
  const std::shared_ptr<TransformObject> object(new TransformObject);
  object->bytes_.assign(bytes.begin(), bytes.end());
  KDN_RETURN_IF_ERROR(Parser(*object, spec).Run());
  object->digest_ = Sha256::Of(object->bytes_);
  object->analysis_ = std::make_unique<LazyAnalysis[]>(object->groups_.size() * kMaxBases);
  return std::shared_ptr<const TransformObject>(object);
}

const TransformGroup* TransformObject::FindGroup(uint32_t layer, uint32_t head) const {
  const auto at = std::find_if(groups_.begin(), groups_.end(), [layer, head](const TransformGroup& group) {
    return layer >= group.layer && layer - group.layer < group.layer_count && head >= group.head_begin &&
           head - group.head_begin < group.head_count;
  });
  return at == groups_.end() ? nullptr : &*at;
}

std::span<const float> TransformObject::Analysis(uint32_t group, uint32_t base) const {
  LazyAnalysis& analysis = analysis_[size_t{group} * kMaxBases + base];
  const absl::MutexLock lock(&analysis.mutex);
  if (analysis.matrix.empty()) analysis.matrix = codec_internal::MakeTransformAnalysis(groups_[group].bases[base]);
  return analysis.matrix;
}

void TransformObjects::Add(std::shared_ptr<const TransformObject> object) {
  const Digest digest = object->digest();
  const absl::MutexLock lock(&mutex_);
  objects_.emplace(digest, std::move(object));
}

std::shared_ptr<const TransformObject> TransformObjects::Find(const Digest& digest) const {
  const absl::MutexLock lock(&mutex_);
  const auto at = objects_.find(digest);
  return at == objects_.end() ? nullptr : at->second;
}

}  // namespace kdn
