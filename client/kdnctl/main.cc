#include "client/kdnctl/command_line.h"

// A command defined wrongly makes CLI11 throw, which may end the process.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) { return kdn::ctl::Main(argc, argv); }
