#include "server/rpc/transport_credentials.h"

#include <fstream>
#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace kdn {
namespace {

// `marker` is what a PEM file of this kind contains.
absl::StatusOr<std::string> ReadPem(std::string_view key, const std::string& path, std::string_view marker) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return NotFound(key, " ", path, " cannot be opened");
  std::string text(kMaxPemBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxPemBytes) return InvalidArgument(key, " ", path, " has more than ", kMaxPemBytes, " bytes");
  if (text.find(marker) == std::string::npos) return InvalidArgument(key, " ", path, " holds no ", marker);
  return text;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(const RpcServerOptions& options) {
  if (options.security == TransportSecurity::kPlaintext) return grpc::InsecureServerCredentials();
  const bool mutual = options.security == TransportSecurity::kMutualTls;
  grpc::SslServerCredentialsOptions ssl(mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                               : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  KDN_ASSIGN_OR_RETURN(pair.cert_chain, ReadPem("tls.cert", options.cert_file, "BEGIN CERTIFICATE"));
  KDN_ASSIGN_OR_RETURN(pair.private_key, ReadPem("tls.key", options.key_file, "PRIVATE KEY"));
  ssl.pem_key_cert_pairs.push_back(std::move(pair));
  if (mutual) {
    KDN_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadPem("tls.client_ca", options.client_ca_file, "BEGIN CERTIFICATE"));
  }
  return grpc::SslServerCredentials(ssl);
}

}  // namespace kdn
