#ifndef KDN_CLIENT_KDNCTL_COMMAND_LINE_H_
#define KDN_CLIENT_KDNCTL_COMMAND_LINE_H_

namespace kdn::ctl {

// Parses the arguments, runs the command, returns what the process exits with.
int Main(int argc, char** argv);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_COMMAND_LINE_H_
