# SPDX-License-Identifier: Apache-2.0
"""Start, end, errors, watchdog and interrupt of a run."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.dma.payloads import INDEX_BITS, LAYER_BITS, REPORT
from hw.regmap import ErrorCode

__all__ = ["RunControl"]


class RunControl(wiring.Component):
    """Runs a program once for each start.

    A start resets the units for a cycle, as the global reset does, and then strobes ``begin``. The
    run ends with ``ended``.
    The first report with a code, lowest number first, stops it: ``stop`` rises, the error is
    shown, and when the memory port is idle (or the watchdog gives up on that) the interrupt
    rises; busy falls when the port is idle. A soft reset does the same without an error, and
    resets the units. Without progress for ``watchdog_cycles`` the run stops with WATCHDOG.

    Parameters: ``reports``, how many sources of errors there are.

    Members: ``report``; ``progress`` something moved; ``drained`` no memory transaction under way;
    ``last_index``, ``layer`` reported by the watchdog; the registers' fields; ``reset_units``,
    ``begin``, ``stop``; ``irq``.
    """

    def __init__(self, reports):
        self.reports = reports
        super().__init__({
            "report": In(REPORT).array(reports), "progress": In(1), "drained": In(1),
            "ended": In(1), "last_index": In(INDEX_BITS), "layer": In(LAYER_BITS),
            "control_start": In(1), "control_soft_reset": In(1), "control_irq_clear": In(1),
            "watchdog_cycles": In(32), "irq_enable_done": In(1), "irq_enable_error": In(1),
            "status_busy": Out(1), "status_done": Out(1), "status_error": Out(1),
            "status_irq": Out(1), "error_code": Out(8), "error_index": Out(INDEX_BITS),
            "error_layer": Out(LAYER_BITS),
            "reset_units": Out(1, init=1), "begin": Out(1), "stop": Out(1), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        first, failed = Signal(REPORT), Signal()
        m.d.sync += failed.eq(Cat(report.code != 0 for report in self.report).any())
        for report in reversed(self.report):
            with m.If(report.code != 0):
                m.d.sync += first.eq(report)

        # the watchdog counts down from the last progress
        patience = Signal(32)
        expired = Signal()
        moved = Signal()
        m.d.sync += [moved.eq(self.progress),
                     expired.eq((patience == 1) & ~moved & (self.watchdog_cycles != 0))]
        with m.If(moved | ~self.status_busy | self.begin):
            m.d.sync += patience.eq(self.watchdog_cycles)
        with m.Elif(patience != 0):
            m.d.sync += patience.eq(patience - 1)

        # drained, and nothing was begun since
        quiet = Signal()
        m.d.sync += quiet.eq(self.drained & self.stop)

        resetting = Signal()
        m.d.comb += self.irq.eq(self.status_irq & ((self.status_done & self.irq_enable_done)
                                                   | (self.status_error & self.irq_enable_error)))
        with m.If(self.control_irq_clear):
            m.d.sync += self.status_irq.eq(0)

        def halt(report):
            m.d.sync += [self.status_error.eq(1), self.error_code.eq(report.code),
                         self.error_index.eq(report.index), self.error_layer.eq(report.layer),
                         patience.eq(self.watchdog_cycles), self.stop.eq(1)]

        def forget():
            m.d.sync += [self.status_done.eq(0), self.status_error.eq(0), self.status_irq.eq(0),
                         self.error_code.eq(0), self.error_index.eq(0), self.error_layer.eq(0)]

        watchdog = Signal(REPORT)
        m.d.comb += [watchdog.code.eq(ErrorCode.WATCHDOG), watchdog.index.eq(self.last_index),
                     watchdog.layer.eq(self.layer)]
        m.d.sync += [self.begin.eq(0), self.reset_units.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.control_soft_reset):
                    forget()
                    m.next = "RESET"
                with m.Elif(self.control_start & ~self.status_error):
                    forget()
                    m.d.sync += self.status_busy.eq(1)
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.sync += [self.reset_units.eq(1), self.stop.eq(0)]
                m.next = "SETTLE"
                with m.If(self.control_start):  # behind a soft reset
                    m.d.sync += self.status_busy.eq(1)
            with m.State("SETTLE"):
                m.next = "IDLE"
                with m.If(self.control_start & ~self.status_busy):
                    m.d.sync += self.status_busy.eq(1)
                    m.next = "RESET"
                with m.If(self.status_busy):
                    m.d.sync += self.begin.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(self.control_soft_reset):
                    m.d.sync += [resetting.eq(1), self.stop.eq(1)]
                    m.next = "HALT"
                with m.Elif(failed):
                    halt(first)
                    m.next = "HALT"
                with m.Elif(expired):
                    halt(watchdog)
                    m.next = "HALT"
                with m.Elif(self.ended):
                    m.d.sync += [self.status_done.eq(1), self.status_irq.eq(1),
                                 self.status_busy.eq(0)]
                    m.next = "IDLE"
            with m.State("HALT"):
                with m.If(self.control_soft_reset):
                    m.d.sync += resetting.eq(1)
                with m.If(expired & self.status_error):
                    m.d.sync += self.status_irq.eq(1)
                with m.If(quiet):
                    m.d.sync += self.status_busy.eq(0)
                    with m.If(resetting | self.control_soft_reset):
                        forget()
                        m.d.sync += resetting.eq(0)
                        m.next = "RESET"
                    with m.Else():
                        m.d.sync += self.status_irq.eq(1)
                        m.next = "IDLE"
        return m
