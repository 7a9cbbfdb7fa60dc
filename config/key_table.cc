#include "config/key_table.h"

#include <algorithm>
#include <array>

namespace kdn::config {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr uint64_t kKiB = uint64_t{1} << 10;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kTiB = uint64_t{1} << 40;

// In the order of the enumerators.
constexpr std::array<std::string_view, 3> kTlsModeNames = {"off", "tls", "mtls"};
constexpr std::array<std::string_view, 3> kAuthModeNames = {"none", "token", "mtls"};
constexpr std::array<std::string_view, 2> kValuesKindNames = {"segments", "rocksdb"};
constexpr std::array<std::string_view, 3> kSyncModeNames = {"always", "batch", "none"};
constexpr std::array<std::string_view, 4> kLogLevelNames = {"debug", "info", "warn", "error"};
constexpr std::array<std::string_view, 2> kLogFormatNames = {"json", "text"};

template <auto Section, auto Member>
auto& MutableAt(Config& config) {
  return (config.*Section).*Member;
}
template <auto Section, auto Member>
const auto& At(const Config& config) {
  return (config.*Section).*Member;
}

template <auto Section, auto Member>
constexpr StringField String(StringRule rule) {
  return {{&MutableAt<Section, Member>, &At<Section, Member>}, rule};
}
template <auto Section, auto Member>
constexpr BoolField Bool() {
  return {{&MutableAt<Section, Member>, &At<Section, Member>}};
}
template <auto Section, auto Member>
constexpr IntegerField Integer(int64_t min, int64_t max, Zero zero = Zero::kWithinBounds) {
  return {{{&MutableAt<Section, Member>, &At<Section, Member>}, min, max, zero}};
}
template <auto Section, auto Member>
constexpr BytesField Bytes(uint64_t min, uint64_t max, Zero zero = Zero::kWithinBounds) {
  return {{{&MutableAt<Section, Member>, &At<Section, Member>}, min, max, zero}};
}
template <auto Section, auto Member>
constexpr DurationField Duration(milliseconds min, milliseconds max, Zero zero = Zero::kWithinBounds) {
  return {{{&MutableAt<Section, Member>, &At<Section, Member>}, min, max, zero}};
}
template <auto Section, auto Member>
constexpr RatioField Ratio(double min, double max) {
  return {{{&MutableAt<Section, Member>, &At<Section, Member>}, min, max, Zero::kWithinBounds}};
}
template <auto Section, auto Member>
constexpr HostPortField Address(EmptyAddress empty, UnixSocket unix_socket) {
  return {{&MutableAt<Section, Member>, &At<Section, Member>}, empty, unix_socket};
}
template <auto Section, auto Member>
void SetEnum(Config& config, int value) {
  auto& member = (config.*Section).*Member;
  member = static_cast<std::remove_reference_t<decltype(member)>>(value);
}
template <auto Section, auto Member>
int GetEnum(const Config& config) {
  return static_cast<int>((config.*Section).*Member);
}
template <auto Section, auto Member>
constexpr EnumField Enum(std::span<const std::string_view> names) {
  return {names, &SetEnum<Section, Member>, &GetEnum<Section, Member>};
}

using C = Config;

constexpr KeySpec kKeys[] = {
    {"server.listen", "127.0.0.1:9460",
     Address<&C::server, &C::Server::listen>(EmptyAddress::kRefused, UnixSocket::kAccepted),
     "Address of the gRPC service; any but a loopback address or a Unix socket needs auth.mode; port 0 takes a free "
     "port"},
    {"server.max_frame_bytes", "1MiB", Bytes<&C::server, &C::Server::max_frame_bytes>(64 * kKiB, 3 * kMiB),
     "Largest data frame of a stream; below the 4 MiB message limit that gRPC clients have by default"},
    {"server.max_streams_per_connection", "128", Integer<&C::server, &C::Server::max_streams_per_connection>(1, 65535),
     "Calls that one connection may have open at a time"},
    {"server.keepalive", "30s", Duration<&C::server, &C::Server::keepalive>(seconds(1), hours(2), Zero::kOrZero),
     "Interval of HTTP/2 pings on a connection with calls; 0 sends none"},
    {"server.idle_timeout", "10m",
     Duration<&C::server, &C::Server::idle_timeout>(seconds(1), hours(24 * 7), Zero::kOrZero),
     "A connection without calls is closed after this long; 0 keeps it"},
    {"server.drain_timeout", "25s", Duration<&C::server, &C::Server::drain_timeout>(milliseconds(0), hours(1)),
     "After SIGTERM, calls in progress may take this long to finish"},
    {"server.default_deadline", "30s", Duration<&C::server, &C::Server::default_deadline>(milliseconds(100), hours(1)),
     "Deadline of a call whose client set none"},
    {"server.threads", "0", Integer<&C::server, &C::Server::threads>(0, 1024),
     "Threads that serve calls; 0 takes one per core"},
    {"server.reflection", "false", Bool<&C::server, &C::Server::reflection>(),
     "Offer gRPC server reflection, which tells anyone who may connect the names of all methods"},

    {"admin.enabled", "true", Bool<&C::admin, &C::Admin::enabled>(), "Serve the Admin service that kdnctl uses"},

    {"metrics.listen", "127.0.0.1:9461",
     Address<&C::metrics, &C::Metrics::listen>(EmptyAddress::kMeansOff, UnixSocket::kRefused),
     "Address of the Prometheus endpoint, plain HTTP without authentication; \"\" turns it off"},
    {"metrics.allow_remote", "false", Bool<&C::metrics, &C::Metrics::allow_remote>(),
     "Allow metrics.listen on an address that other machines reach"},

    {"tls.mode", "off", Enum<&C::tls, &C::Tls::mode>(kTlsModeNames),
     "off: plain text; tls: the server proves its identity; mtls: clients prove theirs as well"},
    {"tls.cert", "", String<&C::tls, &C::Tls::cert>(StringRule::kPath), "PEM file of the server's certificate chain"},
    {"tls.key", "", String<&C::tls, &C::Tls::key>(StringRule::kPath), "PEM file of the server's private key"},
    {"tls.client_ca", "", String<&C::tls, &C::Tls::client_ca>(StringRule::kPath),
     "PEM file of the authorities that sign client certificates"},

    {"auth.mode", "none", Enum<&C::auth, &C::Auth::mode>(kAuthModeNames),
     "How callers are identified; none is accepted on loopback only"},
    {"auth.tokens_file", "", String<&C::auth, &C::Auth::tokens_file>(StringRule::kPath),
     "File of the tokens that auth.mode token accepts, with their tenants"},

    {"storage.path", "/var/lib/kdn", String<&C::storage, &C::Storage::path>(StringRule::kNonEmptyPath),
     "Data directory; one daemon at a time uses it"},
    {"storage.values", "segments", Enum<&C::storage, &C::Storage::values>(kValuesKindNames),
     "Where chunk payloads lie: append-only segment files, or RocksDB beside the index"},
    {"storage.capacity", "0", Bytes<&C::storage, &C::Storage::capacity_bytes>(kMiB, 4096 * kTiB, Zero::kOrZero),
     "Most bytes the store may take on disk; 0 takes all but storage.reserve"},
    {"storage.reserve", "2GiB", Bytes<&C::storage, &C::Storage::reserve_bytes>(0, 4096 * kTiB),
     "Free bytes to leave on the file system"},
    {"storage.high_watermark", "0.9", Ratio<&C::storage, &C::Storage::high_watermark>(0.01, 1.0),
     "Eviction starts when this share of the capacity is in use"},
    {"storage.low_watermark", "0.8", Ratio<&C::storage, &C::Storage::low_watermark>(0.0, 0.99),
     "Eviction stops at this share of the capacity"},
    {"storage.sync", "batch", Enum<&C::storage, &C::Storage::sync>(kSyncModeNames),
     "always: acknowledge a store once it is synced; batch: at once, and sync every sync_interval; none: never sync"},
    {"storage.sync_interval", "50ms", Duration<&C::storage, &C::Storage::sync_interval>(milliseconds(1), seconds(60)),
     "With storage.sync batch, the most that a power loss can take"},
    {"storage.ttl", "0s", Duration<&C::storage, &C::Storage::ttl>(seconds(1), hours(24 * 3650), Zero::kOrZero),
     "Chunks expire this long after they were stored; 0 never"},
    {"storage.segment_bytes", "256MiB", Bytes<&C::storage, &C::Storage::segment_bytes>(kMiB, 4 * kGiB),
     "Size at which a segment file is sealed; space is reclaimed a segment at a time"},
    {"storage.verify_on_read", "true", Bool<&C::storage, &C::Storage::verify_on_read>(),
     "Check the checksum of every record read from disk before it is sent"},
    {"storage.direct_io", "true", Bool<&C::storage, &C::Storage::direct_io>(),
     "Read and write segments past the page cache (O_DIRECT)"},

    {"memory.ram_tier", "1GiB", Bytes<&C::memory, &C::Memory::ram_tier_bytes>(kMiB, 64 * kTiB, Zero::kOrZero),
     "Bytes that the RAM tier may take, never more; 0 turns it off"},
    {"memory.block_cache", "64MiB", Bytes<&C::memory, &C::Memory::block_cache_bytes>(kMiB, kTiB),
     "Block cache of RocksDB, for the index"},
    {"memory.inflight", "1GiB", Bytes<&C::memory, &C::Memory::inflight_bytes>(16 * kMiB, 64 * kTiB),
     "Bytes that all calls together may hold in flight; more wait or are refused"},
    {"memory.per_call", "256MiB", Bytes<&C::memory, &C::Memory::per_call_bytes>(4 * kMiB, kTiB),
     "Bytes that one call may hold in flight"},

    {"limits.max_container_bytes", "512MiB", Bytes<&C::limits, &C::Limits::max_container_bytes>(64 * kKiB, 16 * kGiB),
     "Largest container that a client may store"},
    {"limits.max_chunks_per_call", "8192", Integer<&C::limits, &C::Limits::max_chunks_per_call>(1, 65536),
     "Most chunks that one call may name"},
    {"limits.max_spec_bytes", "1MiB", Bytes<&C::limits, &C::Limits::max_spec_bytes>(4 * kKiB, 3 * kMiB),
     "Largest model spec that RegisterModel accepts"},
    {"limits.max_text_bytes", "64MiB", Bytes<&C::limits, &C::Limits::max_text_bytes>(kKiB, kGiB),
     "Longest text that StoreText and LookupText accept"},

    {"tenants.default", "default", String<&C::tenants, &C::Tenants::default_tenant>(StringRule::kName),
     "Tenant of callers without an identity of their own"},

    {"log.level", "info", Enum<&C::log, &C::Log::level>(kLogLevelNames), "Least severe level that is logged"},
    {"log.format", "json", Enum<&C::log, &C::Log::format>(kLogFormatNames), "One JSON object a line, or text"},
};

}  // namespace

std::span<const KeySpec> KeyTable() { return kKeys; }

const KeySpec* FindKey(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kKeys), std::end(kKeys), [name](const KeySpec& spec) { return spec.name == name; });
  return found == std::end(kKeys) ? nullptr : found;
}

bool IsSection(std::string_view section) {
  return std::any_of(std::begin(kKeys), std::end(kKeys),
                     [section](const KeySpec& spec) { return spec.section() == section; });
}

}  // namespace kdn::config
