#include <unistd.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "client/kdnctl/codec_probe.h"
#include "client/kdnctl/commands.h"
#include "client/kdnctl/files.h"
#include "kernels/base/status.h"
#include "kernels/format/container.h"

// Commands about single chunks.

namespace kdn::ctl {
namespace {

constexpr size_t kMaxContainerFileBytes = size_t{1} << 30;
constexpr int64_t kTransferTimeoutMs = 60'000;

Json SummaryDocument(const ChunkSummary& chunk) {
  return {{"key", chunk.chunk_digest.ToHex()},
          {"fingerprint", chunk.fingerprint.ToHex()},
          {"kind", chunk.kind},
          {"token_begin", chunk.token_begin},
          {"num_tokens", chunk.num_tokens},
          {"profile", chunk.profile},
          {"k_state", chunk.k_state},
          {"quality", QualityOf(chunk.profile, chunk.k_state)},
          {"stored_bytes", chunk.stored_bytes},
          {"raw_bytes", chunk.raw_bytes},
          {"cells_present", chunk.cells_present},
          {"cells_total", chunk.cells_total},
          {"created_ms", chunk.created_ms},
          {"expires_ms", chunk.expires_ms},
          {"pinned", chunk.pinned},
          {"pinned_until_ms", chunk.pinned_until_ms},
          {"in_ram", chunk.in_ram},
          {"documents", chunk.documents}};
}

std::string Joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out.empty() ? "-" : out;
}

std::string Flags(const ChunkSummary& chunk) {
  std::vector<std::string> flags;
  if (chunk.pinned && chunk.pinned_until_ms == 0) flags.push_back("pinned");
  if (chunk.pinned_until_ms != 0) flags.push_back(StrCat("pinned until ", HumanTime(chunk.pinned_until_ms)));
  if (chunk.in_ram) flags.push_back("ram");
  if (chunk.cells_present < chunk.cells_total) flags.push_back("incomplete");
  return Joined(flags);
}

// "2 chunks and 1 text (3.0 MiB)".
std::string Amount(const DeleteCounts& counts) {
  const auto number = [](uint64_t count, std::string_view one) {
    return StrCat(HumanCount(count), " ", one, count == 1 ? "" : "s");
  };
  const std::string texts = counts.texts == 0 ? "" : StrCat(" and ", number(counts.texts, "text"));
  const std::string objects = counts.objects == 0 ? "" : StrCat(" and ", number(counts.objects, "object"));
  return StrCat(number(counts.chunks, "chunk"), texts, objects, " (", HumanBytes(counts.bytes), ")");
}

absl::StatusOr<DeleteTarget> TargetOf(Session& session, const ChunkRmOptions& options) {
  const int named = !options.key.empty() + !options.document.empty() + !options.model.empty();
  if (named != 1) return InvalidArgument("name exactly one of KEY, --document and --model");
  DeleteTarget target;
  if (!options.document.empty()) target.document = options.document;
  if (!options.model.empty()) {
    KDN_ASSIGN_OR_RETURN(const ModelSummary model, session.ResolveModel(options.model));
    target.fingerprint = model.fingerprint;
  }
  if (!options.key.empty()) {
    KDN_ASSIGN_OR_RETURN(target.chunk_digest, session.ResolveChunk(options.key));
  }
  return target;
}

}  // namespace

ExitCode RunChunkLs(Session& session, const ChunkLsOptions& options) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("chunk ls", client.status());
  ListChunksOptions list_options{
      .document = options.document, .limit = options.limit, .page_token = options.page_token};
  if (!options.model.empty()) {
    const auto model = session.ResolveModel(options.model);
    if (!model.ok()) return session.Fail("chunk ls", model.status());
    list_options.fingerprint = model->fingerprint;
  }
  auto list = (*client)->admin().ListChunks(list_options);
  if (!list.ok()) return session.Fail("chunk ls", list.status());
  // Within the page: pages follow the server's keys, which are hashes.
  std::stable_sort(list->chunks.begin(), list->chunks.end(), [](const ChunkSummary& a, const ChunkSummary& b) {
    return std::tuple(a.fingerprint.view(), a.token_begin) < std::tuple(b.fingerprint.view(), b.token_begin);
  });
  Report report;
  report.document["chunks"] = Json::array();
  Table table{{"KEY", "MODEL", "TOKENS", "PROFILE", "STORED", "RAW", "RATIO", "CREATED", "FLAGS"}, {}};
  for (const ChunkSummary& chunk : list->chunks) {
    report.document["chunks"].push_back(SummaryDocument(chunk));
    table.rows.push_back({chunk.chunk_digest.ToShortHex(), chunk.fingerprint.ToShortHex(),
                          StrCat("[", chunk.token_begin, ", ", chunk.token_begin + chunk.num_tokens, ")"),
                          chunk.profile, HumanBytes(chunk.stored_bytes), HumanBytes(chunk.raw_bytes),
                          HumanRatio(chunk.raw_bytes, chunk.stored_bytes), HumanTime(chunk.created_ms), Flags(chunk)});
  }
  report.document["next_page_token"] = list->next_page_token;
  report.tables = {table};
  if (!list->next_page_token.empty()) session.Note(StrCat("more: --page-token ", list->next_page_token));
  return session.Print(report);
}

ExitCode RunChunkInspect(Session& session, const std::string& key, VerifyMode verify) {
  const auto digest = session.ResolveChunk(key);
  if (!digest.ok()) return session.Fail("chunk inspect", digest.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("chunk inspect", client.status());
  const auto details = (*client)->admin().InspectChunk(*digest, verify, kTransferTimeoutMs);
  if (!details.ok()) return session.Fail("chunk inspect", details.status());
  const ChunkSummary& chunk = details->summary;
  Report report;
  report.document = SummaryDocument(chunk);
  report.document["parts"] = Json::array();
  Table facts{{},
              {{"key", chunk.chunk_digest.ToHex()},
               {"model", chunk.fingerprint.ToHex()},
               {"kind", chunk.kind},
               {"tokens", StrCat("[", chunk.token_begin, ", ", chunk.token_begin + chunk.num_tokens, ")")},
               {"profile", chunk.profile},
               {"K", chunk.k_state.empty() ? "not noted" : chunk.k_state},
               {"quality", std::string(QualityOf(chunk.profile, chunk.k_state))},
               {"stored", StrCat(HumanBytes(chunk.stored_bytes), " of ", HumanBytes(chunk.raw_bytes), " raw, ",
                                 HumanRatio(chunk.raw_bytes, chunk.stored_bytes))},
               {"cells", StrCat(chunk.cells_present, " of ", chunk.cells_total)},
               {"created", HumanTime(chunk.created_ms)},
               {"expires", chunk.expires_ms == 0 ? "never" : HumanTime(chunk.expires_ms)},
               {"documents", Joined(chunk.documents)},
               {"flags", Flags(chunk)}}};
  Table parts{{"PART", "BYTES", "HEADER", "SECTIONS", "WIDE", "TILES", "PROFILES", "CELLS", "GROUP", "OFFSET"}, {}};
  for (const PartSummary& part : details->parts) {
    std::vector<std::string> profiles;
    for (const auto& [name, tiles] : part.tiles_by_profile) {
      const auto bytes = part.bytes_by_profile.find(name);
      const std::string size = bytes == part.bytes_by_profile.end() ? "" : StrCat(" (", HumanBytes(bytes->second), ")");
      profiles.push_back(StrCat(name, " ", tiles, size));
    }
    std::vector<std::string> calibration;
    for (const Digest& digest : part.calibration) calibration.push_back(digest.ToHex());
    report.document["parts"].push_back({{"container_bytes", part.container_bytes},
                                        {"header_bytes", part.header_bytes},
                                        {"sections", part.sections},
                                        {"wide_sections", part.wide_sections},
                                        {"tiles", part.tiles},
                                        {"tiles_by_profile", part.tiles_by_profile},
                                        {"bytes_by_profile", part.bytes_by_profile},
                                        {"k_state", part.k_state},
                                        {"calibration", calibration},
                                        {"cells", part.cells},
                                        {"value_group", part.value_group},
                                        {"value_offset", part.value_offset}});
    parts.rows.push_back({std::to_string(parts.rows.size()), HumanBytes(part.container_bytes),
                          HumanBytes(part.header_bytes), std::to_string(part.sections),
                          std::to_string(part.wide_sections), std::to_string(part.tiles), Joined(profiles),
                          std::to_string(part.cells.size()), std::to_string(part.value_group),
                          std::to_string(part.value_offset)});
  }
  if (verify == VerifyMode::kEveryByte) {
    report.document["verify"] = details->verify_result;
    facts.rows.push_back({"verify", details->verify_result});
  }
  report.tables = {facts, parts};
  const bool damaged = verify == VerifyMode::kEveryByte && details->verify_result != "ok";
  return session.Print(report, damaged ? kCorrupt : kDone);
}

ExitCode RunChunkGet(Session& session, const std::string& key, const std::string& out_path) {
  const auto digest = session.ResolveChunk(key);
  if (!digest.ok()) return session.Fail("chunk get", digest.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("chunk get", client.status());
  const auto details = (*client)->admin().InspectChunk(*digest, VerifyMode::kNo);
  if (!details.ok()) return session.Fail("chunk get", details.status());
  const auto model = session.OpenModel(details->summary.fingerprint);
  if (!model.ok()) return session.Fail("chunk get", model.status());
  const auto container = (*client)->FetchContainer(*model, *digest, {.timeout_ms = kTransferTimeoutMs});
  if (!container.ok()) return session.Fail("chunk get", container.status());
  const absl::Status written = WriteFile(out_path, *container);
  if (!written.ok()) return session.Fail("chunk get", written);
  // With "-" the container itself is what stdout carries.
  if (out_path == "-") return kDone;
  Report report;
  report.document = {{"key", digest->ToHex()}, {"bytes", container->size()}, {"file", out_path}};
  report.tables = {{{}, {{StrCat("wrote ", HumanBytes(container->size()), " to ", out_path)}}}};
  return session.Print(report);
}

ExitCode RunChunkPut(Session& session, const ChunkPutOptions& options) {
  const std::string& path = options.path;
  std::optional<ProfileId> profile;
  if (!options.profile.empty()) {
    profile = ParseProfile(options.profile);
    if (!profile.has_value()) return session.Fail("chunk put", InvalidArgument("no profile '", options.profile, "'"));
  }
  const auto content = ReadInput(path, kMaxContainerFileBytes);
  if (!content.ok()) return session.Fail("chunk put", content.status());
  const ByteSpan container = AsBytes(*content);
  const auto header = ParseContainerHeader(container);
  if (!header.ok()) return session.Fail(StrCat("chunk put: '", path, "'"), header.status());
  const auto model = session.OpenModel(header->fingerprint);
  if (!model.ok()) return session.Fail("chunk put", model.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("chunk put", client.status());
  const auto results =
      (*client)->PutContainers(*model, std::span(&container, 1),
                               {.timeout_ms = kTransferTimeoutMs, .document = options.document, .profile = profile});
  if (!results.ok()) return session.Fail("chunk put", results.status());
  const ChunkStoreResult& result = results->front();
  if (result.outcome == ChunkStoreOutcome::kRejected) return session.Fail("chunk put", result.status);
  Report report;
  report.document = {{"key", header->chunk_digest.ToHex()}, {"outcome", ChunkStoreOutcomeName(result.outcome)}};
  if (profile.has_value()) report.document["stored_bytes"] = result.stored_bytes;
  report.tables = {{{}, {{header->chunk_digest.ToShortHex(), std::string(ChunkStoreOutcomeName(result.outcome))}}}};
  return session.Print(report);
}

ExitCode RunChunkRm(Session& session, const ChunkRmOptions& options) {
  const auto target = TargetOf(session, options);
  if (!target.ok()) return session.Fail("chunk rm", target.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail("chunk rm", client.status());
  auto counts = (*client)->admin().Delete(*target, DeleteMode::kDryRun);
  if (!counts.ok()) return session.Fail("chunk rm", counts.status());
  if (!options.dry_run) {
    if (!options.yes) {
      const std::string what = StrCat("delete ", Amount(*counts));
      if (!isatty(STDIN_FILENO)) return session.Fail("chunk rm", InvalidArgument("would ", what, "; give --yes"));
      if (!Confirmed(what + "?")) return session.Fail("chunk rm", Cancelled("nothing was deleted"));
    }
    counts = (*client)->admin().Delete(*target, DeleteMode::kDelete, kTransferTimeoutMs);
    if (!counts.ok()) return session.Fail("chunk rm", counts.status());
  }
  Report report;
  report.document = {{"dry_run", options.dry_run},
                     {"chunks", counts->chunks},
                     {"texts", counts->texts},
                     {"bytes", counts->bytes},
                     {"objects", counts->objects}};
  report.tables = {{{}, {{options.dry_run ? "would delete" : "deleted", Amount(*counts)}}}};
  return session.Print(
      report, counts->chunks + counts->texts == 0 && !options.dry_run && options.model.empty() ? kNotFound : kDone);
}

ExitCode RunChunkPin(Session& session, const std::string& key, PinChange change, uint64_t ttl_ms) {
  const std::string_view what = change == PinChange::kPin ? "chunk pin" : "chunk unpin";
  const auto digest = session.ResolveChunk(key);
  if (!digest.ok()) return session.Fail(what, digest.status());
  const auto client = session.client();
  if (!client.ok()) return session.Fail(what, client.status());
  const absl::Status pinned = (*client)->admin().Pin(*digest, change, ttl_ms);
  if (!pinned.ok()) return session.Fail(what, pinned);
  Report report;
  report.document = {{"key", digest->ToHex()}, {"pinned", change == PinChange::kPin}, {"ttl_ms", ttl_ms}};
  report.tables = {{{}, {{digest->ToShortHex(), change == PinChange::kPin ? "pinned" : "unpinned"}}}};
  return session.Print(report);
}

}  // namespace kdn::ctl
