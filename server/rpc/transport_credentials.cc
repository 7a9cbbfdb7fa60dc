#include "server/rpc/transport_credentials.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <fstream>
#include <memory>
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

struct Free {
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
};

// A daemon has nobody to ask for a passphrase.
int NoPassphrase(char*, int, int, void*) { return 0; }

std::unique_ptr<BIO, Free> Reader(const std::string& pem) {
  return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

absl::StatusOr<std::unique_ptr<X509, Free>> ParseCertificate(std::string_view key, const std::string& path,
                                                             const std::string& pem) {
  std::unique_ptr<X509, Free> certificate(PEM_read_bio_X509(Reader(pem).get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (certificate == nullptr) return InvalidArgument(key, " ", path, " holds a certificate that cannot be read");
  return certificate;
}

absl::Status CheckPair(const RpcServerOptions& options, const grpc::SslServerCredentialsOptions::PemKeyCertPair& pair) {
  KDN_ASSIGN_OR_RETURN(const auto certificate, ParseCertificate("tls.cert", options.cert_file, pair.cert_chain));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(Reader(pair.private_key).get(), nullptr, NoPassphrase, nullptr));
  const bool matches = key != nullptr && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) {
    return InvalidArgument("tls.key ", options.key_file, " holds a key that cannot be read, or one with a passphrase");
  }
  if (matches) return absl::OkStatus();
  return InvalidArgument("tls.key ", options.key_file, " does not belong to tls.cert ", options.cert_file);
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
  KDN_RETURN_IF_ERROR(CheckPair(options, pair));
  ssl.pem_key_cert_pairs.push_back(std::move(pair));
  if (mutual) {
    KDN_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadPem("tls.client_ca", options.client_ca_file, "BEGIN CERTIFICATE"));
    KDN_RETURN_IF_ERROR(ParseCertificate("tls.client_ca", options.client_ca_file, ssl.pem_root_certs).status());
  }
  return grpc::SslServerCredentials(ssl);
}

}  // namespace kdn
