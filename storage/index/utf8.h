#ifndef KDN_STORAGE_INDEX_UTF8_H_
#define KDN_STORAGE_INDEX_UTF8_H_

#include <string_view>

namespace kdn {

// Whether `text` is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). Protobuf writes a `string` field
// that is not, and then refuses to read it: whatever goes into a record is checked first.
bool IsUtf8(std::string_view text);

}  // namespace kdn

#endif  // KDN_STORAGE_INDEX_UTF8_H_
