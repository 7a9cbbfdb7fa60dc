#include "client/kdnctl/command_line.h"

int main(int argc, char** argv) { return kdn::ctl::Main(argc, argv); }
