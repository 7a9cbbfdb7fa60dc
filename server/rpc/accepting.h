#ifndef KDN_SERVER_RPC_ACCEPTING_H_
#define KDN_SERVER_RPC_ACCEPTING_H_

namespace kdn {

// Lets this process open as many descriptors as the system allows it: every connection takes one. Linking it also keeps
// gRPC's listeners alive when there are none left (accepting.cc).
void RaiseDescriptorLimit();

}  // namespace kdn

#endif  // KDN_SERVER_RPC_ACCEPTING_H_
