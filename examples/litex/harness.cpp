// SPDX-License-Identifier: Apache-2.0
// The clock of the simulated SoC, and the host's bytes: those of a socket go in and out.
//
//   Vaddend_soc DESCRIPTOR LIMIT
//
// Ends when the socket's other end is closed, with status 0, or after LIMIT cycles, with 1, and
// prints how many cycles there were and how often the interrupt rose.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <sys/socket.h>
#include "Vaddend_soc.h"
#include "verilated.h"

static const uint64_t INTERVAL = 64;  // cycles between two looks at the socket

int main(int count, char **arguments) {
    if (count != 3) return 2;
    const int host = std::atoi(arguments[1]);
    const uint64_t limit = std::strtoull(arguments[2], nullptr, 10);
    const auto context = std::make_unique<VerilatedContext>();
    const auto top = std::make_unique<Vaddend_soc>(context.get());
    uint8_t taken[4096];
    ssize_t size = 0, next = 0;
    std::string given;
    uint64_t cycle = 0, rises = 0;
    bool open = true, interrupt = false;
    top->host_source_ready = 1;
    for (; open && cycle < limit; cycle++) {
        if (cycle % INTERVAL == 0 && cycle > 0) {  // not in the first ones, of the reset
            if (next == size) {
                next = 0;
                size = recv(host, taken, sizeof taken, MSG_DONTWAIT);
                if (size == 0 || (size < 0 && errno != EAGAIN)) open = false;
                if (size < 0) size = 0;
            }
            while (!given.empty()) {
                const ssize_t went =
                    send(host, given.data(), given.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
                if (went <= 0) break;
                given.erase(0, went);
            }
        }
        top->host_sink_valid = next < size;
        top->host_sink_data = next < size ? taken[next] : 0;
        top->sys_clk = 0;
        top->eval();
        if (top->host_sink_valid && top->host_sink_ready) next++;
        if (top->host_source_valid) given += char(top->host_source_data);
        rises += top->irq && !interrupt;
        interrupt = top->irq;
        top->sys_clk = 1;
        top->eval();
    }
    top->final();
    std::printf("cycles %llu interrupts %llu\n", (unsigned long long)cycle,
                (unsigned long long)rises);
    return open ? 1 : 0;
}
