#include "client/kdnctl/session.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include "kernels/base/status.h"

namespace kdn::ctl {
namespace {

constexpr uint32_t kPageChunks = 1000;
constexpr uint32_t kMaxResolvePages = 1000;
// The most that a client may wait for a sign of life.
constexpr int64_t kMaxDeadAfterMs = 60'000;
constexpr size_t kMaxTokenFileBytes = 64 * 1024;

bool StartsWith(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

bool IsHex(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
}

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
  return text;
}

std::string TrimEnd(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

absl::StatusOr<std::string> ReadInput(const std::string& path, size_t max_bytes) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) return InvalidArgument("cannot read '", path, "'");
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string content;
  char block[65536];
  while (in.read(block, sizeof(block)), in.gcount() > 0) {
    content.append(block, static_cast<size_t>(in.gcount()));
    if (content.size() > max_bytes) return InvalidArgument("'", path, "' has more than ", max_bytes, " bytes");
  }
  if (in.bad()) return Internal("reading '", path, "' failed");
  return content;
}

absl::StatusOr<Client*> Session::client() {
  if (client_ != nullptr) return client_.get();
  ClientOptions options;
  options.endpoint = options_.endpoint;
  options.call_timeout_ms = options_.timeout_ms;
  // A person waits for an answer as long as they said; an engine would rather compute.
  options.dead_after_ms = std::min(options_.timeout_ms, kMaxDeadAfterMs);
  options.on_refusal = OnRefusal::kFail;
  if (options_.tls || !options_.tls_ca.empty() || !options_.tls_cert.empty()) {
    options.tls = TlsOptions{options_.tls_ca, options_.tls_cert, options_.tls_key, options_.tls_server_name};
  }
  if (!options_.token_file.empty()) {
    KDN_ASSIGN_OR_RETURN(std::string token, ReadInput(options_.token_file, kMaxTokenFileBytes));
    options.token = TrimEnd(std::move(token));
  }
  KDN_ASSIGN_OR_RETURN(client_, Client::Connect(options));
  return client_.get();
}

ExitCode Session::Print(const Report& report, ExitCode code) const {
  const std::string text = Render(report, options_.output);
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0) {
    std::fprintf(stderr, "kdnctl: writing to standard output failed\n");
    return kFailed;
  }
  return code;
}

ExitCode Session::Fail(std::string_view what, const absl::Status& status) {
  std::string message(FromAbsl(status.message()));
  if (message.starts_with(kCannotConnect)) {
    message += "; is kdnd running there? (--endpoint or KDNCTL_ENDPOINT says where, --tls-ca and the like how)";
  }
  std::fprintf(stderr, "kdnctl: %.*s: %s [%s]\n", static_cast<int>(what.size()), what.data(), message.c_str(),
               absl::StatusCodeToString(status.code()).c_str());
  return ExitCodeFor(status);
}

void Session::Note(std::string_view text) const {
  if (!options_.quiet) std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

absl::StatusOr<Digest> Session::ResolveChunk(const std::string& key) {
  if (!IsHex(key)) return InvalidArgument("'", key, "' is not a chunk key: give hexadecimal digits");
  if (const auto digest = Digest::FromHex(key)) return *digest;
  if (key.size() < kMinKeyDigits || key.size() > 2 * Digest::kBytes) {
    return InvalidArgument("'", key, "' has ", key.size(), " digits: give ", kMinKeyDigits, " to ", 2 * Digest::kBytes);
  }
  KDN_ASSIGN_OR_RETURN(Client * client, this->client());
  std::optional<Digest> found;
  ListChunksOptions page{.limit = kPageChunks};
  for (uint32_t pages = 0; pages < kMaxResolvePages; ++pages) {
    KDN_ASSIGN_OR_RETURN(const ChunkList list, client->admin().ListChunks(page));
    for (const ChunkSummary& chunk : list.chunks) {
      if (!StartsWith(chunk.chunk_digest.ToHex(), Lower(key))) continue;
      if (found && *found != chunk.chunk_digest) return InvalidArgument("more than one chunk starts with '", key, "'");
      found = chunk.chunk_digest;
    }
    if (list.next_page_token.empty()) break;
    page.page_token = list.next_page_token;
  }
  if (!found) return NotFound("no chunk starts with '", key, "'");
  return *found;
}

absl::StatusOr<ModelSummary> Session::ResolveModel(const std::string& name) {
  KDN_ASSIGN_OR_RETURN(Client * client, this->client());
  KDN_ASSIGN_OR_RETURN(const std::vector<ModelSummary> models, client->admin().ListModels());
  std::vector<ModelSummary> matches;
  for (const ModelSummary& model : models) {
    const bool by_digits =
        name.size() >= kMinKeyDigits && IsHex(name) && StartsWith(model.fingerprint.ToHex(), Lower(name));
    if (name.empty() || by_digits || model.display_name == name) matches.push_back(model);
  }
  if (matches.size() == 1) return matches[0];
  if (models.empty()) return NotFound("no model is registered");
  if (matches.empty() && IsHex(name) && name.size() < kMinKeyDigits) {
    return InvalidArgument("no model is called '", name, "'; of a fingerprint give at least ", kMinKeyDigits,
                           " digits");
  }
  if (matches.empty()) return NotFound("no model is called, or has a fingerprint that starts with, '", name, "'");
  return InvalidArgument(matches.size(), " models match '", name, "': name one with --model FINGERPRINT");
}

absl::StatusOr<ModelHandle> Session::OpenModel(const Fingerprint& fingerprint) {
  KDN_ASSIGN_OR_RETURN(const ModelSummary model, ResolveModel(fingerprint.ToHex()));
  KDN_ASSIGN_OR_RETURN(const ModelSpec spec, DecodeModelSpec(model.canonical_spec));
  if (FingerprintOf(spec) != fingerprint) {
    return DataLoss("the server's spec of model ", fingerprint.ToShortHex(), " has another fingerprint");
  }
  KDN_ASSIGN_OR_RETURN(Client * client, this->client());
  return client->RegisterModel(spec, model.chunk_tokens, model.display_name);
}

}  // namespace kdn::ctl
