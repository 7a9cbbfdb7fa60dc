// Simulates requests over a link whose bandwidth changes, under one policy for the level of each chunk. Arguments:
//   bench_rates POLICY TRACE SLO_SECONDS LINK_BYTES_PER_SECOND PREFILL_TOKENS_PER_SECOND RAW_BYTES_PER_TOKEN LEVEL...
// POLICY is "planned", "cachegen" or a level's name, TRACE a name of LinkTrace, LEVEL name:ratio:loss from best to
// smallest. Standard input: the requests' prefix lengths in tokens, one a line. Standard output: one JSON object.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <random>
#include <sstream>

#include "bench/rates/delivery_policy.h"
#include "bench/rates/link_trace.h"

namespace kdn::bench {
namespace {

constexpr uint32_t kChunkTokens = 256;
constexpr uint64_t kSeed = 20261121;
constexpr double kMeanGapSeconds = 1.0;  // between requests, exponentially distributed

struct Scenario {
  double slo_seconds = 0.0;
  double prefill_tokens_per_second = 0.0;
  double raw_bytes_per_token = 0.0;
  std::vector<Level> levels;
};

struct Outcome {
  double seconds = 0.0;
  double loss = 0.0;  // mean over the request's tokens
};

std::vector<DeliveryChunk> ChunksOf(uint32_t tokens, const Scenario& scenario) {
  std::vector<DeliveryChunk> chunks;
  for (uint32_t at = 0; at < tokens; at += kChunkTokens) {
    DeliveryChunk chunk;
    chunk.tokens = std::min(kChunkTokens, tokens - at);
    for (const Level& level : scenario.levels) {
      chunk.variants.push_back(
          {static_cast<uint64_t>(chunk.tokens * scenario.raw_bytes_per_token / level.ratio), level.loss});
    }
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

Outcome Deliver(uint32_t tokens, double start, const Scenario& scenario, const LinkTrace& link,
                DeliveryPolicy& policy) {
  const std::vector<DeliveryChunk> chunks = ChunksOf(tokens, scenario);
  Outcome outcome;
  policy.RequestBegins();
  for (size_t i = 0; i < chunks.size(); ++i) {
    const std::optional<uint32_t> variant =
        policy.Next({&chunks, i, scenario.slo_seconds - outcome.seconds, scenario.prefill_tokens_per_second});
    if (!variant.has_value()) {
      outcome.seconds += chunks[i].tokens / scenario.prefill_tokens_per_second;
      continue;
    }
    const DeliveryVariant& sent = chunks[i].variants[*variant];
    const double seconds = link.TransferSeconds(start + outcome.seconds, static_cast<double>(sent.bytes));
    policy.Transferred(sent.bytes, seconds);
    outcome.seconds += seconds;
    outcome.loss += sent.loss * chunks[i].tokens / tokens;
  }
  return outcome;
}

int Fail(const std::string& what) {
  std::cerr << "bench_rates: " << what << "\n";
  return 2;
}

std::optional<Level> ParseLevel(const std::string& text) {
  std::istringstream in(text);
  Level level;
  std::string ratio;
  std::string loss;
  if (!std::getline(in, level.name, ':') || !std::getline(in, ratio, ':') || !std::getline(in, loss))
    return std::nullopt;
  level.ratio = std::atof(ratio.c_str());
  level.loss = std::atof(loss.c_str());
  if (level.ratio <= 0 || level.loss < 0) return std::nullopt;
  return level;
}

std::unique_ptr<DeliveryPolicy> MakePolicy(const std::string& name, const Scenario& scenario, double prior) {
  if (name == "planned") return PlannedDelivery(prior);
  if (name == "cachegen") return CacheGenAdaptation(prior);
  for (uint32_t i = 0; i < scenario.levels.size(); ++i) {
    if (scenario.levels[i].name == name) return FixedLevel(i);
  }
  return nullptr;
}

void Print(const Scenario& scenario, std::vector<Outcome> outcomes) {
  std::sort(outcomes.begin(), outcomes.end(), [](const Outcome& a, const Outcome& b) { return a.seconds < b.seconds; });
  const auto in_time = std::count_if(outcomes.begin(), outcomes.end(),
                                     [&](const Outcome& o) { return o.seconds <= scenario.slo_seconds; });
  const double loss =
      std::accumulate(outcomes.begin(), outcomes.end(), 0.0, [](double sum, const Outcome& o) { return sum + o.loss; });
  const auto count = static_cast<double>(outcomes.size());
  std::cout << "{\"requests\": " << outcomes.size() << ", \"attainment\": " << static_cast<double>(in_time) / count
            << ", \"mean_kl\": " << loss / count << ", \"ttft_p50_s\": " << outcomes[outcomes.size() / 2].seconds
            << ", \"ttft_p99_s\": " << outcomes[outcomes.size() * 99 / 100].seconds << "}\n";
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 7) return Fail("seven arguments at least: see the head of rate_simulator.cc");
  Scenario scenario;
  scenario.slo_seconds = std::atof(arguments[2].c_str());
  const double link_rate = std::atof(arguments[3].c_str());
  scenario.prefill_tokens_per_second = std::atof(arguments[4].c_str());
  scenario.raw_bytes_per_token = std::atof(arguments[5].c_str());
  for (size_t i = 6; i < arguments.size(); ++i) {
    const std::optional<Level> level = ParseLevel(arguments[i]);
    if (!level.has_value()) return Fail("level '" + arguments[i] + "' is not name:ratio:loss");
    scenario.levels.push_back(*level);
  }
  const std::unique_ptr<DeliveryPolicy> policy = MakePolicy(arguments[0], scenario, link_rate);
  if (policy == nullptr) return Fail("no policy '" + arguments[0] + "'");
  const std::optional<LinkTrace> link = LinkTrace::Named(arguments[1], link_rate, kSeed);
  if (!link.has_value()) return Fail("no trace '" + arguments[1] + "'");
  std::mt19937_64 random(kSeed);
  std::exponential_distribution<double> gap(1.0 / kMeanGapSeconds);
  std::vector<Outcome> outcomes;
  double now = 0.0;
  for (uint32_t tokens = 0; std::cin >> tokens;) {
    now += gap(random);  // the same starts for every policy
    outcomes.push_back(Deliver(tokens, now, scenario, *link, *policy));
  }
  if (outcomes.empty()) return Fail("no request on standard input");
  Print(scenario, std::move(outcomes));
  return 0;
}

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) { return kdn::bench::Run({argv + 1, argv + argc}); }
