# SPDX-License-Identifier: Apache-2.0
"""The control unit: program, order of the units, run, counters."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.control.counters import Counters
from hw.control.dispatcher import Dispatcher
from hw.control.fetcher import Fetcher
from hw.control.gate import Gate
from hw.control.register_bank import bank_members
from hw.control.run_control import RunControl
from hw.control.semaphores import Semaphores
from hw.descriptor import DESCRIPTOR_BYTES
from hw.dma.payloads import BURST, INDEX_BITS, REPORT, TRANSFER, read_beat
from hw.dma.queue import Queue
from hw.dma.skid import Skid
from hw.regmap import ErrorCode

__all__ = ["Control"]

_QUEUE = 4
"""Descriptors that wait for the compute unit."""

_TRANSFERS = 16
"""Transfers that wait for LOAD and STORE: a block of results takes many, and what is behind them in
the program must get past."""

_COMPUTING = 8
"""Descriptors on their way to the compute unit and inside, at most."""


class Control(wiring.Component):
    """Runs programs: hands descriptors to the three units when their semaphores allow.

    END takes effect when its semaphores allow it and every earlier descriptor has ended.

    Parameters: ``preset``.

    Members
    -------
    One port for each field of hw.regmap, the counterpart of the register bank's, and:
    o_burst, i_data : the memory port for the program.
    o_load, o_store : Out
        Descriptors that may start.
    o_compute : Out
        Beats of descriptors.
    compute_request, compute_wait, compute_grant : In, In, Out
        The compute unit asks for semaphores.
    compute_layer : In
        Layer of the last descriptor that began.
    done_valid, done_post, compute_*, count_*, stall_cause : In
        From the compute unit.
    load_post, store_post, load_idle, store_idle : In
        From LOAD and STORE.
    report : In
        Errors of LOAD, STORE, read port, write port.
    read_beat, write_beat, drained : In
        Beats of this cycle; no memory transaction under way.
    reset_units, stop : Out
        Reset of everything but registers and control, a register; no new memory transactions. What
        it resets is in the clock domain "units", here too.
    irq : Out
    """

    def __init__(self, preset):
        self.preset = preset
        transfers = stream.Signature(TRANSFER)
        super().__init__({name: member.flip() for name, member in bank_members().items()} | {
            "o_burst": Out(stream.Signature(BURST)),
            "i_data": In(stream.Signature(read_beat(preset.axi_bits))),
            "o_load": Out(transfers), "o_store": Out(transfers),
            "o_compute": Out(stream.Signature(preset.axi_bits)),
            "compute_request": In(1), "compute_wait": In(16), "compute_grant": Out(1),
            "compute_layer": In(16),
            "done_valid": In(1), "done_post": In(16), "compute_error": In(4),
            "compute_error_layer": In(16), "compute_idle": In(1),
            "count_additions": In(16), "count_skipped": In(8), "stall_cause": In(8),
            "load_post": In(16), "store_post": In(16), "load_idle": In(1), "store_idle": In(1),
            "report": In(REPORT).array(4), "read_beat": In(1), "write_beat": In(1),
            "drained": In(1), "reset_units": Out(1), "stop": Out(1), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.run = run = RunControl(7)
        m.submodules.counters = counters = Counters(self.preset.beat_bytes)
        for part in (run, counters):
            for name in part.signature.members:
                if hasattr(self, name) and name != "report":
                    ours, theirs = getattr(self, name), getattr(part, name)
                    inward = part.signature.members[name].flow is In
                    m.d.comb += theirs.eq(ours) if inward else ours.eq(theirs)
        m.d.comb += [counters.clear.eq(run.begin), counters.busy.eq(run.status_busy)]

        def unit(name, component):
            m.submodules[name] = DomainRenamer("units")(component)
            return component

        # program
        fetcher = unit("fetcher", Fetcher(self.preset.axi_bits))
        dispatcher = unit("dispatcher", Dispatcher(self.preset))
        # the memory's ready ends here
        burst_skid = unit("burst_skid", Skid(BURST))
        connect(m, fetcher.o_burst, burst_skid.i)
        connect(m, burst_skid.o, flipped(self.o_burst))
        connect(m, flipped(self.i_data), fetcher.i_data)
        connect(m, fetcher.o, dispatcher.i)
        m.d.comb += [fetcher.start.eq(run.begin), fetcher.address.eq(self.program_address),
                     fetcher.count.eq(self.program_count),
                     dispatcher.exhausted.eq(fetcher.exhausted),
                     run.last_index.eq(dispatcher.index)]

        # a queue for each unit, and a gate for all but compute, which asks by itself
        semaphores = unit("semaphores", Semaphores())
        gates = []
        for number, (name, source, shape, depth) in enumerate((
                ("load", dispatcher.o_load, TRANSFER, _TRANSFERS),
                ("store", dispatcher.o_store, TRANSFER, _TRANSFERS),
                ("end", dispatcher.o_end, 16, 2)), 1):
            queue = unit(f"{name}_queue", Queue(shape, depth))
            gate = unit(f"{name}_gate", Gate(shape))
            connect(m, source, queue.i)
            connect(m, queue.o, gate.i)
            m.d.comb += [semaphores.request[number].eq(gate.request),
                         gate.grant.eq(semaphores.grant[number])]
            gates.append(gate)
        load, store, end = gates
        beats = 8 * DESCRIPTOR_BYTES // self.preset.axi_bits
        compute = unit("compute_queue", Queue(self.preset.axi_bits, _QUEUE * beats))
        # the contexts are far away: they are written from registers, not from the queue's memory
        compute_skid = unit("compute_skid", Skid(self.preset.axi_bits))
        connect(m, dispatcher.o_compute, compute.i)
        connect(m, compute.o, compute_skid.i)
        connect(m, compute_skid.o, flipped(self.o_compute))
        m.d.comb += [semaphores.request[0].eq(self.compute_request),
                     self.compute_grant.eq(semaphores.grant[0])]
        waits = (self.compute_wait, load.i.payload["wait"], store.i.payload["wait"], end.i.payload)
        posts = (Mux(self.done_valid, self.done_post, 0), self.load_post, self.store_post)
        m.d.comb += [semaphores.wait[number].eq(wait) for number, wait in enumerate(waits)]
        m.d.comb += [semaphores.post[number].eq(post) for number, post in enumerate(posts)]
        m.d.comb += semaphores.stop.eq(run.stop)
        connect(m, load.o, flipped(self.o_load))
        connect(m, store.o, flipped(self.o_store))

        # the compute unit's descriptors, remembered until they end
        computing = unit("computing", Queue(INDEX_BITS, _COMPUTING))
        connect(m, dispatcher.o_index, computing.i)
        m.d.comb += [computing.o.ready.eq(self.done_valid), run.layer.eq(self.layer)]
        m.d.sync += self.layer.eq(self.compute_layer)

        # end of the program: END was dispatched long behind what may still be under way
        quiet = Signal()
        m.d.sync += quiet.eq(Cat(self.load_idle, self.store_idle, self.compute_idle,
                                 ~computing.o.valid, *(~gate.i.valid for gate in gates[:2])).all())
        m.d.comb += [end.o.ready.eq(quiet), run.ended.eq(end.o.valid & quiet)]

        # errors and progress
        failed_compute = Signal(REPORT)
        overflow = Signal(REPORT)
        m.d.sync += [failed_compute.code.eq(0), overflow.code.eq(0)]
        with m.If(self.compute_error != 0):
            m.d.sync += [
                failed_compute.code.eq(self.compute_error + (ErrorCode.RESIDUAL_OVERFLOW - 1)),
                failed_compute.index.eq(computing.o.payload),
                failed_compute.layer.eq(self.compute_error_layer)]
        with m.If(semaphores.overflow):
            m.d.sync += [overflow.code.eq(ErrorCode.SEMAPHORE_OVERFLOW),
                         overflow.index.eq(dispatcher.index), overflow.layer.eq(self.layer)]
        reports = (*self.report, fetcher.error, dispatcher.error)
        merged = Signal(REPORT)
        m.d.comb += merged.eq(Mux(overflow.code != 0, overflow.as_value(),
                                  failed_compute.as_value()))
        for number, report in enumerate((*reports, merged)):
            m.d.comb += run.report[number].eq(report)
        counted = Signal()
        m.d.sync += counted.eq(self.count_additions.any() | self.count_skipped.any())
        m.d.comb += run.progress.eq(Cat(
            self.read_beat, self.write_beat, counted, self.done_valid,
            semaphores.grant.any()).any())
        return m
