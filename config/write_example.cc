// Prints the example configuration: kdn_write_example > config/kdnd.example.yaml
#include <cstdio>

#include "config/print.h"

int main() { return std::fputs(kdn::config::ExampleFile().c_str(), stdout) < 0 ? 1 : 0; }
