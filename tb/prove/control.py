# SPDX-License-Identifier: Apache-2.0
"""Proofs of control: semaphores, fetch, the run, registers."""

from amaranth import *

from hw.control.fetcher import Fetcher
from hw.control.register_bank import RegisterBank
from hw.control.run_control import RunControl
from hw.control.semaphores import Semaphores
from hw.dma.payloads import INDEX_BITS
from hw.regmap import REGISTERS, Access, ErrorCode
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one

__all__ = ["PROOFS"]

_COUNT, _WAITERS, _POSTERS = 3, 2, 2


@proof(Semaphores, reach=14, bugs=[
    Bug("grants with one of the semaphores", "~(masks[waiter] & ~above).any()",
        "(~masks[waiter].any() | (masks[waiter] & above).any())"),
    Bug("what was granted is asked for again", "asked.eq(self.request & ~self.grant)",
        "asked.eq(self.request)"),
    Bug("two grants at once", "chosen.eq(satisfied & (-satisfied)[:self.waiters])",
        "chosen.eq(satisfied)"),
    Bug("a grant in every cycle", "with m.If(~self.stop & (self.grant == 0)):",
        "with m.If(~self.stop):"),
    Bug("grants do not lower", "- lowered[index])", ")"),
    Bug("a poster is lost", "sum(mask[index] for mask in post)", "post[0][index] | post[1][index]"),
    Bug("above lags", "above[index].eq(total[:_WIDTH].any())", "above[index].eq(number.any())"),
    Bug("overflows at 8", "with m.If(total[_WIDTH:].any()):", "with m.If(total[3:].any()):"),
])
def _semaphores(p: Properties, block: type) -> None:
    """No grant before its posts; one at a time, the lowest first; overflow is told."""
    dut, m = p.add(block(_COUNT, _WAITERS, _POSTERS)), p.m
    asked = p.past(dut.request & ~dut.grant)
    masks = [p.past(wait) for wait in dut.wait]
    p.invariant(asked == p.signal("asked"))
    for waiter, mask in enumerate(masks):
        p.assume("a request and its mask hold until the grant",
                 dut.request[waiter] & (dut.wait[waiter] == mask), asked[waiter])
        p.invariant(mask == p.signal(f"mask_{waiter}"), asked[waiter])
    overflows, above = [], []
    for which in range(_COUNT):
        posted = sum(mask[which] for mask in dut.post)
        taken = Cat(dut.grant[n] & dut.wait[n][which] for n in range(_WAITERS)).any()
        balance = p.register(10, "balance")         # posts less grants
        m.d.sync += balance.eq(balance + posted - taken)
        overflows.append(balance - taken > 255)
        above.append(p.past(balance - taken > 0))
        p.claim("what a grant takes was posted before: never below 0", balance >= 1,
                taken & ~dut.overflow)
        value, lowered = p.signal(f"value_{which}"), p.signal("lowered")[which]
        waiting = sum(p.signal(f"post_{n}")[which] for n in range(_POSTERS))
        p.invariant((balance == value + waiting) & (balance < 260), ~dut.overflow)
        p.invariant(lowered == taken)
        p.invariant(above[-1] == (value != 0), ~dut.overflow)
        p.invariant(p.signal("above")[which] == (value != 0))
    p.claim("an overflow is told when a semaphore exceeds 255, only then, and stays",
            dut.overflow == p.past(dut.overflow | Cat(overflows).any()))
    p.claim("at most one grant", ~dut.grant.all())
    p.claim("no grants in two cycles in a row", ~p.past(dut.grant.any()), dut.grant.any())
    p.claim("only who asked is granted", (dut.grant & ~p.past(asked)) == 0)
    p.claim("none while stopped", p.past(~dut.stop), dut.grant.any())
    could = p.past(asked[0] & ~(masks[0] & ~Cat(above)).any())
    p.claim("the lower number goes first", ~could | dut.overflow, dut.grant[1])
    p.claim("a request whose semaphores are there is granted two cycles later", dut.grant[0],
            could & p.past(~dut.stop & (dut.grant == 0)) & ~dut.overflow)
    p.cover("a grant takes two semaphores", dut.grant[1] & (dut.wait[1] == 6))
    p.cover("both are granted", p.count(dut.grant[0]).any() & dut.grant[1])


@proof(Fetcher, k=1, reach=14, small={"DESCRIPTOR_BYTES": 2}, bugs=[
    Bug("asks for one too many", "(ahead != _AHEAD)", "(ahead != _AHEAD + 1)"),
    Bug("the address steps by a beat", "burst.address + DESCRIPTOR_BYTES", "burst.address + 1"),
    Bug("last is never given", "self.o.payload.last.eq(beat == beats - 1)",
        "self.o.payload.last.eq(beat == beats)"),
    Bug("takes a misaligned address", "running.eq(self.address[:7] == 0)", "running.eq(1)"),
    Bug("the number of a descriptor changes within it", "index.eq(index + ended)",
        "index.eq(index + 1)"),
])
def _fetcher(p: Properties, block: type) -> None:
    """``count`` bursts of one descriptor each; their beats in order, numbered, the last marked.

    A descriptor here is two beats of a byte.
    """
    beats = 2
    dut, m = p.add(block(8)), p.m
    o, burst = dut.o.payload, dut.o_burst.payload
    address, count = p.steady("address", dut.address), p.steady("count", dut.count)
    started = p.register(1, "started")
    m.d.sync += started.eq(started | dut.start)
    p.assume("one start for each reset", ~started, dut.start)
    asked, get = dut.o_burst.valid & dut.o_burst.ready, dut.o.valid & dut.o.ready
    put = dut.i_data.valid & dut.i_data.ready
    n, owed = p.register(INDEX_BITS, "bursts"), p.register(5, "owed")
    m.d.sync += [n.eq(n + asked), owed.eq(owed + Mux(asked, beats, 0) - put)]
    p.assume("memory answers only what was asked for", owed != 0, dut.i_data.valid)
    p.holds("memory", dut.i_data, claimed=False)
    waiting, before, element, level = follow_one(
        p, put, get, dut.i_data.payload, Cat(o.data, p.signal("o__payload", "skid")[-1]), 8)
    p.claim("nothing is asked for before the start, or from an address off 128",
            started & (address[:7] == 0), dut.o_burst.valid)
    p.claim("burst n is descriptor n, behind the one before",
            (burst.address == (address + (n << 1))[:32]) & (burst.index == n)
            & (burst.beats == beats), dut.o_burst.valid)
    p.claim("no more bursts than descriptors", n < count, dut.o_burst.valid)
    p.holds("bursts", dut.o_burst)
    p.claim("memory never waits", dut.i_data.ready, dut.i_data.valid)
    given, whole = p.register(1, "given"), p.register(INDEX_BITS, "whole")
    m.d.sync += [given.eq(given + get), whole.eq(whole + (get & given))]
    p.claim("every second beat is the last of its descriptor", o.last == given, dut.o.valid)
    p.claim("beats carry the number of their descriptor", o.index == whole, dut.o.valid)
    p.holds("output", dut.o)
    p.claim("exhausted when the last one was taken, and only then",
            dut.exhausted == p.past(started & (address[:7] == 0) & (whole == count)))
    ahead = (n - whole)[:INDEX_BITS]
    p.claim("at most four descriptors ahead", ahead <= 4)
    p.claim("a misaligned address is reported", dut.error.code == ErrorCode.MISALIGNED,
            p.past(dut.start & (address[:7] != 0)))
    p.claim("nothing else is reported but error answers",
            p.past(get & p.signal("o__payload", "skid")[-1])
            | p.past(dut.start & (address[:7] != 0)), dut.error.code != 0)

    p.invariant(p.signal("left") == (count - n)[:INDEX_BITS], started)
    p.invariant(n <= count)
    p.invariant(~p.signal("running") & (n == 0) & (whole == 0), ~started)
    p.invariant(p.signal("running") == (address[:7] == 0), started)
    p.invariant((burst.address == (address + (n << 1))[:32]) & (burst.index == n), started)
    p.invariant((n == 0) & (ahead == 0), ~p.signal("running"))
    p.invariant(ahead == p.signal("ahead"))
    p.invariant((p.signal("beat") == given) & (p.signal("index") == whole))
    p.invariant((ahead << 1) - given == owed + level)
    skid_valid, spare = p.signal("o__valid", "skid"), p.signal("spare_valid", "skid")
    queued = p.signal("level", "queue")
    p.invariant(level == skid_valid + spare + queued)
    p.invariant(skid_valid, spare)
    p.invariant(p.signal("not_empty", "queue") == (queued != 0))
    p.invariant(p.signal("not_full", "queue") == (queued != 8))
    head, tail = p.signal("head", "queue"), p.signal("tail", "queue")
    p.invariant((tail - head)[:3] == queued[:3])
    in_skid = (before == 0) & skid_valid
    p.invariant(p.signal("o__payload", "skid") == element, waiting & in_skid)
    in_spare = (before == 1) & spare
    p.invariant(p.signal("spare", "skid") == element, waiting & in_spare)
    p.invariant(p.row("queue.memory", (head + before - skid_valid - spare)[:3]) == element,
                waiting & ~in_skid & ~in_spare)
    p.cover("two descriptors, all", dut.exhausted & (count == 2))


@proof(RunControl, k=2, reach=14, bugs=[
    Bug("begins without a reset", "m.next = \"RESET\"\n            with m.State(\"RESET\")",
        "m.d.sync += self.begin.eq(1)\n                    m.next = \"RUN\"\n"
        "            with m.State(\"RESET\")"),
    Bug("starts again after an error", "self.control_start & ~self.status_error",
        "self.control_start"),
    Bug("not busy before memory is quiet", "with m.If(quiet):\n", "with m.If(1):\n"),
    Bug("quiet before the stop counts", "quiet.eq(self.drained & self.stop)",
        "quiet.eq(self.drained)"),
    Bug("the last report wins", "for report in reversed(self.report)",
        "for report in self.report"),
    Bug("the watchdog barks early", "(patience == 1)", "(patience == 2)"),
    Bug("an error does not stop", "patience.eq(self.watchdog_cycles), self.stop.eq(1)]",
        "patience.eq(self.watchdog_cycles)]"),
])
def _run_control(p: Properties, block: type) -> None:
    """A start resets and begins; a run ends by END, or stopped, when memory is quiet."""
    dut, m = p.add(block(2)), p.m
    cycles = p.steady("watchdog_cycles", dut.watchdog_cycles)
    codes = [report.code for report in dut.report]
    busy, old_busy = dut.status_busy, p.past(dut.status_busy)
    p.claim("units are reset in the cycle before they begin", p.past(dut.reset_units), dut.begin)
    p.claim("begins once a start", ~p.past(dut.begin) & busy & ~dut.stop, dut.begin)
    begun = p.register(1, "begun")
    with m.If(~busy):
        m.d.sync += begun.eq(0)
    with m.Elif(dut.begin):
        m.d.sync += begun.eq(1)
    p.claim("no second begin while busy", ~begun, dut.begin)
    p.claim("busy only after a start, and not after an error",
            p.past(dut.control_start & ~dut.status_error), busy & ~old_busy)
    p.claim("a start is taken", busy, p.past(
        p.state("IDLE") & dut.control_start & ~dut.status_error & ~dut.control_soft_reset))
    calm = p.past(dut.drained & dut.stop)
    p.claim("busy falls at END or when memory was quiet behind the stop",
            p.past(calm) | (dut.status_done & p.past(dut.ended)), old_busy & ~busy)
    p.claim("what was stopped ends two cycles after memory is quiet", ~p.state("HALT"),
            p.past(p.past(p.state("HALT") & dut.drained)))
    p.claim("stop lasts until the units are reset", dut.stop | dut.reset_units, p.past(dut.stop))
    p.claim("done and error exclude each other", ~(dut.status_done & dut.status_error))
    p.claim("an error has a code, and only an error", dut.status_error == (dut.error_code != 0))
    p.claim("an error stops", dut.stop | p.past(p.state("RESET")) | p.state("RESET"),
            dut.status_error)
    kept = Cat(dut.error_code, dut.error_index, dut.error_layer)
    p.claim("the first error stays until a start or a reset",
            (kept == p.past(kept)) | (dut.error_code == 0), p.past(dut.status_error))
    reported = p.past(p.state("RUN") & ~dut.control_soft_reset) & p.past(p.past(
        Cat(code != 0 for code in codes).any()))
    lowest = p.past(p.past(Mux(codes[0] != 0, dut.report[0].as_value(),
                               dut.report[1].as_value())))
    p.claim("a report stops two cycles later; the lower number is shown",
            dut.stop & (kept == lowest) & dut.status_error, reported)
    running = p.state("RUN")
    # cycles without progress: while busy, and since the units began
    still, since = p.register(33, "still"), p.register(33, "since")
    moved = p.past(dut.progress)
    m.d.sync += [still.eq(Mux(moved | ~busy, 0, still + (still[:32] != 0xFFFFFFFF))),
                 since.eq(Mux(moved | ~running | dut.begin, 0, since + (since[:32] != 0xFFFFFFFF)))]
    barks = (dut.error_code == ErrorCode.WATCHDOG) & (p.past(dut.error_code) == 0)
    p.claim("the watchdog stops after watchdog_cycles, not before, and never with 0",
            (p.past(still) >= cycles) & (cycles != 0), barks & ~reported)
    p.claim("after watchdog_cycles without progress it stops", ~running,
            (since > cycles) & (cycles != 0))
    p.claim("irq is a cause that is pending and enabled", dut.irq == (dut.status_irq & (
        (dut.status_done & dut.irq_enable_done) | (dut.status_error & dut.irq_enable_error))))
    p.claim("an end is told", dut.status_done & dut.status_irq & ~busy,
            p.past(p.state("RUN") & dut.ended & ~dut.control_soft_reset)
            & ~p.past(p.signal("failed") | p.signal("expired")))
    p.claim("a soft reset clears the error and resets the units",
            ~dut.status_error & p.state("RESET"),
            p.past(p.state("IDLE") & dut.control_soft_reset))

    halting, idle, reset, settle = (p.state(name) for name in ("HALT", "IDLE", "RESET", "SETTLE"))
    p.invariant(p.signal("fsm_state") <= 4)
    p.invariant(busy & ~dut.stop & ~dut.status_error & ~dut.status_done, running)
    p.invariant(dut.stop & busy & ~dut.status_done, halting)
    p.invariant(~busy, idle)
    p.invariant(~dut.status_error & ~dut.status_done, reset | settle)
    p.invariant(~dut.stop & dut.reset_units, settle)
    p.invariant(running & ~begun, dut.begin)
    p.invariant(begun | dut.begin, running | halting)
    p.invariant(~begun, settle)
    p.invariant(~begun, reset & busy)
    p.invariant(dut.stop, dut.status_error)
    p.invariant(~p.signal("resetting"), ~halting)
    patience = p.signal("patience")
    p.invariant(still + patience >= cycles, busy & ~halting)
    p.invariant((still >= cycles) & (cycles != 0), p.signal("expired") & running)
    p.invariant(((since + patience == cycles) | ((patience == 0) & (since == cycles))),
                running & ~dut.begin & (cycles != 0))
    p.invariant(p.signal("expired") & (cycles != 0),
                running & ~dut.begin & (cycles != 0) & (since == cycles))
    p.invariant(since == 0, dut.begin)
    p.invariant(moved == p.signal("moved"))
    p.invariant(calm == p.signal("quiet"))
    p.cover("a run ends", dut.status_done)
    p.cover("an error, a soft reset, and another run", dut.begin & p.count(dut.status_error).any()
            & p.count(dut.begin).any())
    p.cover("the watchdog stops a run of 3 cycles' patience", barks & (cycles == 3))


@proof(RegisterBank, k=2, reach=12, bugs=[
    Bug("answers before the data came", "have_address & have_word & ~bus.bvalid",
        "have_address & ~bus.bvalid"),
    Bug("an answer is dropped", "with m.If(bus.bready):", "with m.If(1):"),
    Bug("strobes are ignored", "(port & ~mask[bits]) | (word[bits] & mask[bits])", "word[bits]"),
    Bug("takes a second address while one waits", "bus.awready.eq(~have_address)",
        "bus.awready.eq(~have_address | ~have_word)"),
    Bug("a read is answered twice", "bus.rvalid.eq(1), have_wanted.eq(0)", "bus.rvalid.eq(1)"),
    Bug("the upper half is not kept", "m.d.sync += kept.eq(value[32:])", "m.d.sync += kept.eq(0)"),
    Bug("an answer before the choice", "with m.If(chosen):",
        "with m.If(have_wanted & ~bus.rvalid):"),
    Bug("the wrong eight", "with m.Switch(wanted[5:]):", "with m.Switch(wanted[6:]):"),
])
def _register_bank(p: Properties, block: type) -> None:
    """AXI4-Lite: one answer each, held; a write changes the bytes it names, a read tells."""
    dut, m = p.add(block(MINUTE)), p.m
    bus = dut.bus
    p.claim("a write response holds until taken", bus.bvalid, p.past(bus.bvalid & ~bus.bready))
    p.claim("read data hold until taken", bus.rvalid & (bus.rdata == p.past(bus.rdata)),
            p.past(bus.rvalid & ~bus.rready))
    took_aw, took_w = bus.awvalid & bus.awready, bus.wvalid & bus.wready
    took_ar = bus.arvalid & bus.arready
    here = [p.register(1, name) for name in ("address_here", "word_here", "wanted_here")]
    address, wanted = p.register(len(bus.awaddr), "address"), p.register(len(bus.araddr), "wanted")
    word, strobe = p.register(32, "word"), p.register(4, "strobe")
    write = here[0] & here[1] & ~bus.bvalid
    # a read looks at all registers, in two steps, and is answered behind the second
    read = p.register(1, "read")
    look = here[2] & ~bus.rvalid & ~read
    m.d.sync += read.eq(look)
    with m.If(write):
        m.d.sync += [here[0].eq(0), here[1].eq(0)]
    with m.If(read):
        m.d.sync += here[2].eq(0)
    with m.If(took_aw):
        m.d.sync += [here[0].eq(1), address.eq(bus.awaddr)]
    with m.If(took_w):
        m.d.sync += [here[1].eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
    with m.If(took_ar):
        m.d.sync += [here[2].eq(1), wanted.eq(bus.araddr)]
    p.claim("an address is not taken while one waits", ~here[0], took_aw)
    p.claim("nor data", ~here[1], took_w)
    p.claim("nor a read", ~here[2], took_ar)
    written = p.past(write)
    p.claim("a write is answered two cycles after both are there, once",
            bus.bvalid == p.past(written | (bus.bvalid & ~bus.bready)))
    p.claim("a read is answered two cycles later, once",
            bus.rvalid == p.past(read | (bus.rvalid & ~bus.rready)))
    mask = Cat(bit.replicate(8) for bit in strobe)
    for number, register in enumerate(REGISTERS):
        if register.access not in (Access.WRITE, Access.STROBE):
            continue
        hit = p.past(write & (address[2:] == number))
        p.invariant(p.signal(f"hit_{register.name}") == hit)
        for name, lsb, width in register.ports():
            bits, port = slice(lsb, lsb + width), getattr(dut, name)
            if register.access is Access.STROBE:
                p.claim("a strobe lasts one cycle, behind its write",
                        port == p.past(hit & word[lsb] & mask[lsb]))
                continue
            shadow = p.register(width, name, init=register.init >> lsb & (1 << width) - 1)
            with m.If(hit):
                m.d.sync += shadow.eq((shadow & ~mask[bits]) | (word[bits] & mask[bits]))
            p.claim("a register holds what was written to it, byte by byte", port == shadow)
            p.claim("and reads as that", bus.rdata[bits] == p.past(p.past(port)),
                    p.past(read & (wanted[2:] == number)))
    for number, register in enumerate(REGISTERS):
        if register.name == "additions_low":
            upper = p.register(16, "upper")
            value = p.past(dut.additions)           # that of the look
            with m.If(read & (wanted[2:] == number)):
                m.d.sync += upper.eq(value[32:])
            p.claim("a counter reads as it was two cycles before", bus.rdata == p.past(value[:32]),
                    p.past(read & (wanted[2:] == number)))
            other = p.register(1, "other")      # another counter was read since
            with m.If(read):
                m.d.sync += other.eq((wanted[2:] != number) & (
                    other | (wanted[2:] != number + 1)))
            seen = p.count(read & (wanted[2:] == number), 1)
            p.claim("a counter's halves belong together", bus.rdata == p.past(upper),
                    p.past(read & (wanted[2:] == number + 1) & seen & ~other))
            p.invariant(p.signal("kept") == upper, seen & ~other)
            p.cover("a counter is read", p.past(read & (wanted[2:] == number + 1) & seen & ~other))
    p.claim("unknown addresses read 0", bus.rdata == 0,
            p.past(read & (wanted[2:] >= len(REGISTERS))))
    p.invariant((p.signal("have_address") == here[0]) & (p.signal("have_word") == here[1])
                & (p.signal("have_wanted") == here[2]))
    p.invariant(p.signal("address") == address, here[0])
    p.invariant((p.signal("word") == word) & (p.signal("strobe") == strobe), here[1] | written)
    p.invariant(p.signal("written") == written)
    p.invariant(~here[0] & ~here[1] & ~bus.bvalid, written)
    p.invariant(p.signal("wanted") == wanted, here[2])
    p.invariant(p.signal("chosen") == read)
    p.invariant(here[2] & ~bus.rvalid, read)
    p.cover("a start", dut.control_start)


PROOFS = (_semaphores, _fetcher, _run_control, _register_bank)
