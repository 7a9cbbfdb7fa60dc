#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <optional>

#include "client/kdnctl/codec_probe.h"
#include "client/kdnctl/commands.h"
#include "client/kdnctl/files.h"
#include "kernels/base/status.h"
#include "kernels/codec/transform_object.h"
#include "kernels/format/calibration_object.h"
#include "kernels/format/container.h"

// Profiles, calibration objects, and what files of either kind hold.

namespace kdn::ctl {
namespace {

constexpr size_t kMaxProbedFileBytes = size_t{1} << 30;
constexpr int64_t kTransferTimeoutMs = 60'000;

std::string YesNo(bool yes) { return yes ? "yes" : "no"; }

std::string Fixed(double value, const char* format) {
  char text[32];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

Json LevelsDocument(const TransformFacts& facts) {
  Json levels = Json::array();
  for (const LevelFacts& level : facts.levels) {
    Json row = {{"ratio", level.ratio}, {"step", level.step}, {"expected_kl", nullptr}};
    if (level.expected_kl.has_value()) row["expected_kl"] = *level.expected_kl;
    levels.push_back(std::move(row));
  }
  return levels;
}

// "8x (KL 0.0005), 16x".
std::string LevelsText(const TransformFacts& facts) {
  std::string text;
  for (const LevelFacts& level : facts.levels) {
    text += StrCat(text.empty() ? "" : ", ", Fixed(level.ratio, "%gx"));
    if (level.expected_kl.has_value()) text += StrCat(" (KL ", Fixed(*level.expected_kl, "%.4g"), ")");
  }
  return text.empty() ? "-" : text;
}

Json ObjectDocument(const CalibrationInfo& info) {
  return {{"digest", info.digest.ToHex()},
          {"fingerprint", info.fingerprint.ToHex()},
          {"kind", CalibrationKindName(info.kind)},
          {"object_bytes", info.object_bytes},
          {"created_ms", info.created_ms},
          {"display_name", info.display_name},
          {"active", info.active}};
}

Table ProfileTable(Json& document) {
  Table table{{"PROFILE", "KV", "QUALITY", "CALIBRATION", "ENCODES", "DTYPES"}, {}};
  for (const ProfileFacts& facts : AllProfiles()) {
    const std::string name(ProfileName(facts.profile));
    const std::string quality(QualityOf(name, "rotated"));
    document.push_back({{"profile", name},
                        {"exact", facts.is_exact},
                        {"quality", quality},
                        {"needs_calibration", facts.needs_calibration},
                        {"encodes", facts.encodes},
                        {"dtypes", facts.dtypes}});
    table.rows.push_back({name, facts.is_exact ? "exact" : "lossy", quality, facts.needs_calibration ? "needed" : "-",
                          YesNo(facts.encodes), facts.dtypes.empty() ? "-" : facts.dtypes});
  }
  return table;
}

absl::StatusOr<Table> ObjectTable(Client& client, const Fingerprint& fingerprint, Json& document) {
  KDN_ASSIGN_OR_RETURN(const std::vector<CalibrationInfo> infos, client.ListCalibrations(fingerprint));
  Table table{{"OBJECT", "KIND", "BYTES", "ACTIVE", "NAME", "CREATED", "LEVELS"}, {}};
  for (const CalibrationInfo& info : infos) {
    Json row = ObjectDocument(info);
    std::string levels = "-";
    if (info.kind == CalibrationKind::kTransform) {
      KDN_ASSIGN_OR_RETURN(const CalibrationBytes bytes,
                           client.GetCalibration(fingerprint, info.digest, kTransferTimeoutMs));
      KDN_ASSIGN_OR_RETURN(const TransformFacts facts, ReadTransformFacts(*bytes));
      row["levels"] = LevelsDocument(facts);
      levels = LevelsText(facts);
    }
    document.push_back(std::move(row));
    table.rows.push_back({info.digest.ToShortHex(), std::string(CalibrationKindName(info.kind)),
                          HumanBytes(info.object_bytes), YesNo(info.active),
                          info.display_name.empty() ? "-" : info.display_name, HumanTime(info.created_ms), levels});
  }
  return table;
}

// The object that `key` names, of whatever model.
absl::StatusOr<CalibrationInfo> ResolveObject(Session& session, const std::string& key) {
  if (key.size() < kMinKeyDigits || key.size() > 2 * Digest::kBytes ||
      key.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return InvalidArgument("'", key, "' is not an object's digest: give ", kMinKeyDigits, " to ", 2 * Digest::kBytes,
                           " hexadecimal digits");
  }
  std::string wanted = key;
  std::transform(wanted.begin(), wanted.end(), wanted.begin(), [](unsigned char c) { return std::tolower(c); });
  KDN_ASSIGN_OR_RETURN(Client * client, session.client());
  KDN_ASSIGN_OR_RETURN(const std::vector<ModelSummary> models, client->admin().ListModels());
  std::vector<CalibrationInfo> found;
  for (const ModelSummary& model : models) {
    KDN_ASSIGN_OR_RETURN(const std::vector<CalibrationInfo> infos, client->ListCalibrations(model.fingerprint));
    for (const CalibrationInfo& info : infos) {
      if (info.digest.ToHex().starts_with(wanted)) found.push_back(info);
    }
  }
  if (found.empty()) return NotFound("no calibration object starts with '", key, "'");
  if (found.size() > 1) return InvalidArgument(found.size(), " calibration objects start with '", key, "'");
  return found[0];
}

struct KnownModel {
  ModelSpec spec;
  uint32_t chunk_tokens = 0;
};

// The registered model of that fingerprint, where the server can be asked and knows it.
std::optional<KnownModel> FindModel(Session& session, const Fingerprint& fingerprint, ProbeMode mode) {
  if (mode == ProbeMode::kOffline) return std::nullopt;
  const auto model = session.ResolveModel(fingerprint.ToHex());
  if (!model.ok()) {
    session.Note(StrCat("without its model: ", FromAbsl(model.status().message())));
    return std::nullopt;
  }
  const absl::StatusOr<ModelSpec> spec = DecodeModelSpec(model->canonical_spec);
  if (!spec.ok() || FingerprintOf(*spec) != fingerprint) return std::nullopt;
  return KnownModel{*spec, model->chunk_tokens};
}

absl::StatusOr<Report> ProbeObject(Session& session, ByteSpan bytes, ProbeMode mode) {
  KDN_ASSIGN_OR_RETURN(const CalibrationKind kind, PeekCalibrationKind(bytes));
  Report report;
  const std::string digest = Sha256::Of(bytes).ToHex();
  report.document = {
      {"file", "object"}, {"digest", digest}, {"kind", CalibrationKindName(kind)}, {"object_bytes", bytes.size()}};
  Table facts{{},
              {{"file", "calibration object"},
               {"digest", digest},
               {"kind", std::string(CalibrationKindName(kind))},
               {"bytes", HumanBytes(bytes.size())}}};
  report.tables = {facts};
  if (kind != CalibrationKind::kTransform) return report;
  KDN_ASSIGN_OR_RETURN(const TransformFacts transform, ReadTransformFacts(bytes));
  KDN_ASSIGN_OR_RETURN(const Fingerprint fingerprint, FingerprintOfCalibration(bytes));
  report.document["fingerprint"] = fingerprint.ToHex();
  report.document["groups"] = transform.groups;
  report.document["queries"] = transform.queries;
  report.document["levels"] = LevelsDocument(transform);
  report.tables[0].rows.push_back({"model", fingerprint.ToHex()});
  report.tables[0].rows.push_back({"groups", std::to_string(transform.groups)});
  report.tables[0].rows.push_back({"queries", StrCat(transform.queries, " per KV head")});
  report.tables[0].rows.push_back({"levels", LevelsText(transform)});
  const std::optional<KnownModel> model = FindModel(session, fingerprint, mode);
  if (!model.has_value()) return report;
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<const TransformObject> object, TransformObject::Parse(bytes, model->spec));
  Table groups{{"LAYERS", "HEADS", "BASES", "CHANNELS", "RANKS"}, {}};
  Json& rows = report.document["group_list"] = Json::array();
  for (const TransformGroup& group : object->groups()) {
    std::vector<uint32_t> ranks;
    std::string ranks_text;
    for (const TransformBase& base : group.bases) {
      ranks.push_back(base.rank);
      ranks_text += StrCat(ranks_text.empty() ? "" : " ", base.rank);
    }
    rows.push_back({{"layer", group.layer},
                    {"layer_count", group.layer_count},
                    {"head_begin", group.head_begin},
                    {"head_count", group.head_count},
                    {"channels", group.width()},
                    {"ranks", ranks}});
    groups.rows.push_back({StrCat(group.layer, "..", group.layer + group.layer_count - 1),
                           StrCat(group.head_begin, "..", group.head_begin + group.head_count - 1),
                           std::to_string(group.bases.size()), std::to_string(group.width()), ranks_text});
  }
  report.tables.push_back(groups);
  return report;
}

absl::StatusOr<Report> ProbeContainer(Session& session, ByteSpan bytes, ProbeMode mode) {
  KDN_ASSIGN_OR_RETURN(const ContainerHeader header, ParseContainerHeader(bytes));
  if (header.header_bytes + header.body_bytes != bytes.size()) {
    return DataLoss("the container says it has ", header.header_bytes + header.body_bytes, " bytes, the file has ",
                    bytes.size());
  }
  const ByteSpan body = bytes.subspan(header.header_bytes);
  uint64_t wide = 0;
  for (const SectionEntry& section : header.sections) {
    KDN_RETURN_IF_ERROR(VerifySection(section, body.subspan(section.offset, section.length)));
    wide += section.wide ? 1 : 0;
  }
  const std::optional<KnownModel> model = FindModel(session, header.fingerprint, mode);
  if (model.has_value()) {
    const CellMap cells(model->spec, model->chunk_tokens);
    KDN_RETURN_IF_ERROR(CheckAgainstModel(header, model->spec, cells));
  }
  const std::string k_state = header.rope_state == RopeState::kRotated ? "rotated" : "unrotated";
  Report report;
  report.document = {{"file", "container"},
                     {"key", header.chunk_digest.ToHex()},
                     {"fingerprint", header.fingerprint.ToHex()},
                     {"token_begin", header.token_begin},
                     {"num_tokens", header.num_tokens},
                     {"dtype", DTypeName(header.dtype)},
                     {"k_state", k_state},
                     {"tile_tokens", header.tile_tokens},
                     {"cells", header.cells.Count()},
                     {"container_bytes", bytes.size()},
                     {"header_bytes", header.header_bytes},
                     {"sections", header.sections.size()},
                     {"wide_sections", wide},
                     {"calibration", Json::array()},
                     {"profiles", Json::array()}};
  Table facts{{},
              {{"file", "container, every checksum right"},
               {"key", header.chunk_digest.ToHex()},
               {"model", header.fingerprint.ToHex()},
               {"tokens", StrCat("[", header.token_begin, ", ", header.token_begin + header.num_tokens, ")")},
               {"dtype", std::string(DTypeName(header.dtype))},
               {"K", k_state},
               {"bytes", StrCat(HumanBytes(bytes.size()), ", header ", HumanBytes(header.header_bytes))},
               {"sections", StrCat(header.sections.size(), ", wide ", wide)}}};
  for (const Digest& digest : header.calibration) {
    report.document["calibration"].push_back(digest.ToHex());
    facts.rows.push_back({"object", digest.ToHex()});
  }
  Table profiles{{"PROFILE", "QUALITY", "TILES", "STORED", "RAW", "RATIO"}, {}};
  for (const auto& [name, use] : UseByProfile(header, model.has_value() ? &model->spec : nullptr)) {
    const std::string quality(QualityOf(name, k_state));
    report.document["profiles"].push_back({{"profile", name},
                                           {"quality", quality},
                                           {"tiles", use.tiles},
                                           {"stored_bytes", use.stored_bytes},
                                           {"raw_bytes", use.raw_bytes}});
    profiles.rows.push_back({name, quality, HumanCount(use.tiles), HumanBytes(use.stored_bytes),
                             use.raw_bytes == 0 ? "-" : HumanBytes(use.raw_bytes),
                             HumanRatio(use.raw_bytes, use.stored_bytes)});
  }
  report.tables = {facts, profiles};
  return report;
}

}  // namespace

ExitCode RunCodecLs(Session& session, const std::string& model) {
  Report report;
  Json profiles = Json::array();
  report.tables.push_back(ProfileTable(profiles));
  report.document["profiles"] = std::move(profiles);
  if (model.empty()) return session.Print(report);
  const auto resolved = session.ResolveModel(model);
  if (!resolved.ok()) return session.Fail("codec ls", resolved.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("codec ls", client.status());
  Json objects = Json::array();
  const auto table = ObjectTable(**client, resolved->fingerprint, objects);
  if (!table.ok()) return session.Fail("codec ls", table.status());
  report.document["fingerprint"] = resolved->fingerprint.ToHex();
  report.document["objects"] = std::move(objects);
  report.tables.push_back(*table);
  return session.Print(report);
}

ExitCode RunCodecPut(Session& session, const CodecPutOptions& options) {
  const auto content = ReadInput(options.path, kMaxCalibrationBytes);
  if (!content.ok()) return session.Fail("codec put", content.status());
  const auto model = session.ResolveModel(options.model);
  if (!model.ok()) return session.Fail("codec put", model.status());
  const ByteSpan bytes = AsBytes(*content);
  const auto kind = CheckCalibrationHeader(bytes, model->fingerprint);
  if (!kind.ok()) return session.Fail(StrCat("codec put: '", options.path, "'"), kind.status());
  if (*kind == CalibrationKind::kTransform) {
    // The server looks no further than the header.
    const auto spec = DecodeModelSpec(model->canonical_spec);
    if (!spec.ok()) return session.Fail("codec put", spec.status());
    const auto object = TransformObject::Parse(bytes, *spec);
    if (!object.ok()) return session.Fail(StrCat("codec put: '", options.path, "'"), object.status());
  }
  const auto client = session.client();
  if (!client.ok()) return session.Fail("codec put", client.status());
  PutCalibrationOptions put_options;
  if (options.activate) put_options.activation = CalibrationActivation::kActivate;
  put_options.display_name = options.name;
  put_options.timeout_ms = kTransferTimeoutMs;
  const auto put = (*client)->PutCalibration(model->fingerprint, bytes, put_options);
  if (!put.ok()) return session.Fail("codec put", put.status());
  Report report;
  report.document = ObjectDocument(put->info);
  report.document["created"] = put->created;
  report.tables = {{{},
                    {{put->info.digest.ToHex(), put->created ? "stored" : "was there",
                      put->info.active ? "active" : "not active"}}}};
  return session.Print(report);
}

ExitCode RunCodecGet(Session& session, const std::string& key, const std::string& out_path) {
  const auto info = ResolveObject(session, key);
  if (!info.ok()) return session.Fail("codec get", info.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("codec get", client.status());
  const auto bytes = (*client)->GetCalibration(info->fingerprint, info->digest, kTransferTimeoutMs);
  if (!bytes.ok()) return session.Fail("codec get", bytes.status());
  const absl::Status written = WriteFile(out_path, **bytes);
  if (!written.ok()) return session.Fail("codec get", written);
  // With "-" the object itself is what stdout carries.
  if (out_path == "-") return kDone;
  Report report;
  report.document = {{"digest", info->digest.ToHex()}, {"bytes", (*bytes)->size()}, {"file", out_path}};
  report.tables = {{{}, {{StrCat("wrote ", HumanBytes((*bytes)->size()), " to ", out_path)}}}};
  return session.Print(report);
}

ExitCode RunCodecActivate(Session& session, const std::string& key) {
  const auto info = ResolveObject(session, key);
  if (!info.ok()) return session.Fail("codec activate", info.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("codec activate", client.status());
  const auto active = (*client)->ActivateCalibration(info->fingerprint, info->digest, kTransferTimeoutMs);
  if (!active.ok()) return session.Fail("codec activate", active.status());
  Report report;
  report.document = ObjectDocument(*active);
  report.tables = {{{}, {{active->digest.ToShortHex(), "active"}}}};
  return session.Print(report);
}

ExitCode RunCodecRm(Session& session, const CodecRmOptions& options) {
  const auto info = ResolveObject(session, options.key);
  if (!info.ok()) return session.Fail("codec rm", info.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("codec rm", client.status());
  if (!options.yes) {
    const std::string what = StrCat("delete object ", info->digest.ToShortHex(), " (", HumanBytes(info->object_bytes),
                                    "), without which chunks that refer to it cannot be read");
    if (!isatty(STDIN_FILENO)) return session.Fail("codec rm", InvalidArgument("would ", what, "; give --yes"));
    if (!Confirmed(StrCat(what, "?"))) return session.Fail("codec rm", Cancelled("nothing was deleted"));
  }
  const auto deletion = options.force ? CalibrationDeletion::kForced : CalibrationDeletion::kUnlessActive;
  const absl::Status deleted = (*client)->DeleteCalibration(info->fingerprint, info->digest, deletion);
  if (!deleted.ok()) return session.Fail("codec rm", deleted);
  Report report;
  report.document = {{"digest", info->digest.ToHex()}, {"object_bytes", info->object_bytes}};
  report.tables = {{{}, {{"deleted", info->digest.ToShortHex()}}}};
  return session.Print(report);
}

ExitCode RunCodecProbe(Session& session, const std::string& path, ProbeMode mode) {
  const auto content = ReadInput(path, kMaxProbedFileBytes);
  if (!content.ok()) return session.Fail("codec probe", content.status());
  const ByteSpan bytes = AsBytes(*content);
  const bool is_object = bytes.size() >= sizeof(uint32_t) && LoadLe<uint32_t>(bytes.data()) == kCalibrationMagic;
  const auto report = is_object ? ProbeObject(session, bytes, mode) : ProbeContainer(session, bytes, mode);
  if (!report.ok()) return session.Fail(StrCat("codec probe: '", path, "'"), report.status());
  return session.Print(*report);
}

}  // namespace kdn::ctl
