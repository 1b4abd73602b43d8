// SPDX-License-Identifier: Apache-2.0
// Clock, memory and host bus around the Verilated accelerator, run in bulk.
//
// Memory is a flat array of the caller. Reads and writes are answered in order, `latency` cycles
// after their address (reads) or last beat (writes), and share `bandwidth` bytes a cycle. With a
// `stall` above 0 every channel pauses at random, and the host is slow to take what registers
// answer. What the rules of AXI4 and AXI4-Lite forbid, bursts outside the regions that the host
// wrote to the registers, transactions under way when a run has ended, and assertions of the
// hardware are noted as an error and end the run. The accelerator's bus outputs are registered, so the outputs seen before a
// clock edge are those of that cycle, and inputs may change together with the edge.
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <vector>

#include "Vaddend.h"
#include "verilated.h"
#include "verilated_vcd_c.h"
#ifdef COVERAGE
#include "verilated_cov.h"
#endif

extern double main_time;

namespace {

constexpr uint32_t kBytes = AXI_BYTES;
constexpr uint32_t kQueue = 64;  // a power of two
constexpr uint32_t kPatience = 10000;  // cycles that the register bus may take
constexpr uint32_t kOkay = 0, kSlaveError = 2;
constexpr uint64_t kNowhere = ~0ull;
constexpr uint32_t kStates = 12;  // of sim/probes.py
[[maybe_unused]] constexpr uint32_t kBegins = 4, kContext = 7, kRunning = 8, kClear = 9, kStrobes = 0x7f;

// The line of an assertion that failed. A model is only ever evaluated by one thread.
thread_local int failed_line = 0;

struct Burst {
    uint64_t address;
    uint64_t due;
    uint32_t beats;
    uint32_t response;
};

struct Queue {
    Burst entry[kQueue];
    uint32_t head = 0, tail = 0;
    bool empty() const { return head == tail; }
    uint32_t size() const { return tail - head; }
    bool full() const { return size() == kQueue; }
    Burst& front() { return entry[head % kQueue]; }
    Burst& back() { return entry[(tail - 1) % kQueue]; }
    void push(const Burst& burst) { entry[tail++ % kQueue] = burst; }
    void pop() { ++head; }
};

struct Address {
    uint32_t address, length, size, burst;
    bool operator!=(const Address& other) const {
        return address != other.address || length != other.length || size != other.size ||
               burst != other.burst;
    }
};

}  // namespace

void vl_stop(const char*, int line, const char*) { failed_line = line; }

struct Harness {
    Vaddend* top;
    uint8_t* memory;
    uint64_t size;
    uint64_t latency = 100;
    int64_t bandwidth = int64_t(kBytes) << 8;  // in 1/256 byte a cycle
    uint32_t stall = 0;                         // of 256
    uint32_t mute = 0;                          // channels that pause for ever
    uint64_t random = 1;
    uint64_t fault_base = 0, fault_limit = 0;
    uint64_t lost_read = kNowhere, lost_write = kNowhere;  // addresses of beats that get lost, once
    uint64_t cycle = 0;
    int64_t credit = 0;
    bool last_wrote = false;  // the last beat was written: reads and writes take turns
    Queue reads, writes, answers;
    uint32_t write_beat = 0;
    bool ar_waits = false, aw_waits = false, w_waits = false, w_last = false;
    Address ar_seen, aw_seen;
    uint8_t w_seen[kBytes];
    VerilatedVcdC* trace = nullptr;
    // addresses of the registers that hold read base, read limit, write base, write limit
    uint32_t region_register[4] = {~0u, ~0u, ~0u, ~0u};
    uint32_t region[4] = {0, ~0u, 0, ~0u};
    // profile: kStates sums for what was before the first compute descriptor and for each; events
    std::vector<uint64_t> states = std::vector<uint64_t>(kStates), happened;
    size_t owner[2] = {0, 0};  // where the sums of each context's descriptor are
    uint64_t profiled = 0;
    char error[256] = "";

    void fail(const char* text, uint64_t value) {
        if (!error[0])
            std::snprintf(error, sizeof error, "cycle %llu: %s (%#llx)",
                          (unsigned long long)cycle, text, (unsigned long long)value);
    }

    bool pause(uint32_t channel, uint64_t dice) const {
        return (mute >> channel & 1) || (stall && ((dice >> (8 * channel)) & 255) < stall);
    }

    // `kind`: 0 a read, 2 a write
    Burst accept(uint32_t kind, const Address& a) {
        const uint64_t end = uint64_t(a.address) + uint64_t(a.length + 1) * kBytes;
        Burst burst{a.address, cycle + latency, a.length + 1, kOkay};
        if ((1u << a.size) != kBytes || a.burst != 1) fail("burst is not INCR of full beats", a.size);
        if (a.address % kBytes) fail("burst is not aligned", a.address);
        if (a.address / 4096 != (end - 1) / 4096) fail("burst crosses 4 KB", a.address);
        if (end > size) {
            fail(kind ? "write outside memory" : "read outside memory", a.address);
            burst.response = kSlaveError;
        } else if (a.address < region[kind] || end > region[kind + 1]) {
            fail(kind ? "write outside its region" : "read outside its region", a.address);
        }
        if (a.address < fault_limit && end > fault_base) burst.response = kSlaveError;
        return burst;
    }

    void step() {
        Vaddend* const t = top;
        uint64_t dice = 0;
        if (stall) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            dice = random;
        }
        credit += bandwidth;
        if (credit > (int64_t(2 * kBytes) << 8) + bandwidth)
            credit = (int64_t(2 * kBytes) << 8) + bandwidth;

        // read address
        t->m_axi_arready = !reads.full() && !pause(0, dice);
        if (t->m_axi_arvalid) {
            const Address now{t->m_axi_araddr, t->m_axi_arlen, t->m_axi_arsize, t->m_axi_arburst};
            if (ar_waits && now != ar_seen) fail("AR changed while it waited", now.address);
            ar_seen = now;
            if (t->m_axi_arready) reads.push(accept(0, now));
        } else if (ar_waits) {
            fail("ARVALID fell while it waited", 0);
        }
        ar_waits = t->m_axi_arvalid && !t->m_axi_arready;

        // a write that waits for bandwidth comes before a read that follows a read
        const bool room = !writes.empty() && !answers.full();
        const int64_t kept = t->m_axi_wvalid && room && !last_wrote ? int64_t(kBytes) << 8 : 0;

        // read data: once offered, it stays
        if (!t->m_axi_rvalid && !reads.empty() && reads.front().due <= cycle &&
            credit >= (int64_t(kBytes) << 8) + kept && !pause(1, dice)) {
            Burst& burst = reads.front();
            if (burst.address == lost_read) {
                if (burst.beats == 1) {
                    fail("a burst's last beat can't get lost", lost_read);
                } else {
                    burst.address += kBytes;
                    --burst.beats;
                }
                lost_read = kNowhere;
            }
            credit -= int64_t(kBytes) << 8;
            last_wrote = false;
            t->m_axi_rvalid = 1;
            t->m_axi_rresp = burst.response;
            t->m_axi_rlast = burst.beats == 1;
            if (burst.address + kBytes <= size)
                std::memcpy(&t->m_axi_rdata, memory + burst.address, kBytes);
        }
        const bool read_taken = t->m_axi_rvalid && t->m_axi_rready;

        // write address
        t->m_axi_awready = !writes.full() && !pause(2, dice);
        if (t->m_axi_awvalid) {
            const Address now{t->m_axi_awaddr, t->m_axi_awlen, t->m_axi_awsize, t->m_axi_awburst};
            if (aw_waits && now != aw_seen) fail("AW changed while it waited", now.address);
            aw_seen = now;
            if (t->m_axi_awready) writes.push(accept(2, now));
        } else if (aw_waits) {
            fail("AWVALID fell while it waited", 0);
        }
        aw_waits = t->m_axi_awvalid && !t->m_axi_awready;

        // write data: taken only when its address is known
        t->m_axi_wready = room && credit >= int64_t(kBytes) << 8 && !pause(3, dice);
        if (t->m_axi_wvalid) {
            if (w_waits && (std::memcmp(w_seen, &t->m_axi_wdata, kBytes) || w_last != t->m_axi_wlast))
                fail("W changed while it waited", 0);
            if (t->m_axi_wready) {
                Burst& burst = writes.front();
                credit -= int64_t(kBytes) << 8;
                last_wrote = true;
                const bool last = ++write_beat == burst.beats;
                if (last != bool(t->m_axi_wlast)) fail("WLAST at a wrong beat", burst.address);
                const uint64_t at = burst.address + uint64_t(write_beat - 1) * kBytes;
                if (at == lost_write)
                    lost_write = kNowhere;
                else if (burst.response == kOkay && at + kBytes <= size)
                    std::memcpy(memory + at, &t->m_axi_wdata, kBytes);
                if (last) {
                    answers.push(Burst{burst.address, cycle + latency, 0, burst.response});
                    writes.pop();
                    write_beat = 0;
                }
            } else {
                std::memcpy(w_seen, &t->m_axi_wdata, kBytes);
                w_last = t->m_axi_wlast;
            }
        } else if (w_waits) {
            fail("WVALID fell while it waited", 0);
        }
        w_waits = t->m_axi_wvalid && !t->m_axi_wready;

        // write response
        if (!t->m_axi_bvalid && !answers.empty() && answers.front().due <= cycle && !pause(4, dice)) {
            t->m_axi_bvalid = 1;
            t->m_axi_bresp = answers.front().response;
        }
        const bool answer_taken = t->m_axi_bvalid && t->m_axi_bready;

        edge();
        profile();
        if (read_taken) {
            t->m_axi_rvalid = 0;
            reads.front().address += kBytes;
            if (--reads.front().beats == 0) reads.pop();
        }
        if (answer_taken) {
            t->m_axi_bvalid = 0;
            answers.pop();
        }
    }

    // Whether `signal` of the host's bus rises soon: every wait for it has an end.
    template <typename Signal> bool comes(const Signal& signal) {
        for (uint32_t left = kPatience; !signal && left; --left) step();
        if (!signal) fail("the registers do not answer", 0);
        return signal;
    }

    void edge() {
        top->clk = 1;
        top->eval();
        if (trace) trace->dump(2 * cycle + 1);
        top->clk = 0;
        top->eval();
        if (trace) trace->dump(2 * cycle + 2);
        if (failed_line) {
            fail("assertion failed", uint64_t(failed_line));
            failed_line = 0;
        }
        ++cycle;
    }

    // The host takes its time before it takes an answer, which must stay as it is.
    template <typename Valid, typename Data> void dally(const Valid& valid, const Data& data) {
        if (!stall) return;
        const Data before = data;
        for (uint64_t left = 1 + (random >> 32 & 3); left; --left) {
            step();
            if (!valid || data != before) fail("an answer of the registers changed", data);
        }
    }

    // Adds up what the probes of sim/probes.py say: groups in each state, by compute descriptor.
    void profile() {
#ifdef PROFILE
        const uint32_t events = top->probe_events;
        if (events >> kClear & 1) {
            states.assign(kStates, 0);
            happened.clear();
            owner[0] = owner[1] = profiled = 0;
            return;
        }
        if (!(events >> kRunning & 1)) return;
        if (events >> kBegins & 1) {
            owner[events >> kContext & 1] = states.size();
            states.resize(states.size() + kStates);
        }
        const uint32_t words[kStates / 4] = {top->probe_0, top->probe_1, top->probe_2};
        const size_t newest = states.size() - kStates;
        for (uint32_t state = 0; state < kStates; ++state)
            states[(state < 2 ? owner[state] : newest) + state] += words[state / 4] >> 8 * (state % 4) & 255;
        if (events & kStrobes) happened.push_back(profiled << 16 | events);
        ++profiled;
#endif
    }

    void watch_registers(uint32_t address, uint32_t value) {
        for (int number = 0; number < 4; ++number)
            if (address == region_register[number]) region[number] = value;
    }
};

extern "C" {

// A context of its own for the next model: a context never forgets a model that was deleted.
// With a seed, what has no value at power-up gets a random one (models built with --x-initial unique).
void harness_context(uint32_t seed) {
    VerilatedContext* const context = new VerilatedContext;
    if (seed) {
        context->randReset(2);
        context->randSeed(int(seed));
    }
    Verilated::threadContextp(context);
}

// `mutant` is the number of the fault to plant, of a model that has many: see tb/mutation.
Harness* harness_open(Vaddend* top, uint8_t* memory, uint64_t size, uint32_t mutant) {
    Harness* const h = new Harness;
    h->top = top;
#ifdef MUTANTS
    top->mutsel = mutant;
#else
    (void)mutant;
#endif
    h->memory = memory;
    h->size = size;
    top->clk = 0;
    top->rst = 1;
    top->eval();
    for (int i = 0; i < 4; ++i) h->edge();
    top->rst = 0;
    h->cycle = 0;
    failed_line = 0;  // before the reset, nothing counts
    main_time = 0;  // Verilator refuses a second model once time has passed
    return h;
}

void harness_close(Harness* h) {
    if (h->trace) {
        h->trace->close();
        delete h->trace;
    }
    delete h;
}

// Writes what was counted; nothing in a model without coverage.
void harness_coverage(Harness* h, const char* path) {
#ifdef COVERAGE
    h->top->contextp()->coveragep()->write(path);
#else
    (void)h, (void)path;
#endif
}

void harness_timing(Harness* h, uint64_t latency, uint64_t bandwidth_256, uint32_t stall,
                    uint64_t seed) {
    h->latency = latency;
    h->bandwidth = int64_t(bandwidth_256);
    h->stall = stall;
    h->random = seed * 0x9e3779b97f4a7c15ull | 1;
}

void harness_fault(Harness* h, uint64_t base, uint64_t limit) {
    h->fault_base = base;
    h->fault_limit = limit;
}

void harness_lose(Harness* h, uint64_t address, int write) {
    (write ? h->lost_write : h->lost_read) = address;
}

// Memory no longer answers on the channels of the mask (AR, R, AW, W, B from bit 0 on).
void harness_mute(Harness* h, uint32_t channels) { h->mute = channels; }

void harness_trace(Harness* h, const char* path) {
    h->trace = new VerilatedVcdC;
    h->top->trace(h->trace, 99);
    h->trace->open(path);
}

// Registers that hold the bounds within which the accelerator reads and writes.
void harness_regions(Harness* h, uint32_t read_base, uint32_t read_limit, uint32_t write_base,
                     uint32_t write_limit) {
    const uint32_t addresses[4] = {read_base, read_limit, write_base, write_limit};
    std::memcpy(h->region_register, addresses, sizeof addresses);
}

// Transactions that memory has not finished.
uint32_t harness_pending(Harness* h) {
    return h->reads.size() + h->writes.size() + h->answers.size();
}

// The profile's sums (which = 0) or events (1: cycle of the run << 16 | bits), and how many.
const uint64_t* harness_profile(Harness* h, int which, uint64_t* count) {
    const std::vector<uint64_t>& found = which ? h->happened : h->states;
    *count = found.size();
    return found.data();
}

const char* harness_error(Harness* h) { return h->error; }
uint64_t harness_cycle(Harness* h) { return h->cycle; }

// Runs until the interrupt (1), a protocol error (2) or `cycles` cycles later (0).
int harness_run(Harness* h, uint64_t cycles) {
    const uint64_t end = h->cycle + cycles;
    while (!h->top->irq) {
        if (h->error[0]) return 2;
        if (h->cycle >= end) return 0;
        h->step();
    }
    return 1;
}

void harness_step(Harness* h, uint64_t cycles) {
    while (cycles--) h->step();
}

// Returns 0, and notes an error, when the registers do not answer; a write, likewise.
uint32_t harness_read32(Harness* h, uint32_t address) {
    Vaddend* const t = h->top;
    t->s_axil_araddr = address;
    t->s_axil_arvalid = 1;
    if (!h->comes(t->s_axil_arready)) return 0;
    h->step();
    t->s_axil_arvalid = 0;
    if (!h->comes(t->s_axil_rvalid)) return 0;
    h->dally(t->s_axil_rvalid, t->s_axil_rdata);
    const uint32_t value = t->s_axil_rdata;
    if (t->s_axil_rresp) h->fail("a register read failed", address);
    t->s_axil_rready = 1;
    h->step();
    t->s_axil_rready = 0;
    return value;
}

void harness_write32(Harness* h, uint32_t address, uint32_t value) {
    Vaddend* const t = h->top;
    t->s_axil_awaddr = address;
    t->s_axil_awvalid = 1;
    if (!h->comes(t->s_axil_awready)) return;
    h->step();
    t->s_axil_awvalid = 0;
    t->s_axil_wdata = value;
    t->s_axil_wstrb = 15;
    t->s_axil_wvalid = 1;
    if (!h->comes(t->s_axil_wready)) return;
    h->step();
    t->s_axil_wvalid = 0;
    if (!h->comes(t->s_axil_bvalid)) return;
    h->watch_registers(address, value);
    h->dally(t->s_axil_bvalid, t->s_axil_bresp);
    if (t->s_axil_bresp) h->fail("a register write failed", address);
    t->s_axil_bready = 1;
    h->step();
    t->s_axil_bready = 0;
}

}  // extern "C"
