# SPDX-License-Identifier: Apache-2.0
"""AXI4 and AXI4-Lite channels as signatures, seen from the master."""

from amaranth.lib.wiring import In, Out, Signature

__all__ = ["MEANING", "axi4_lite", "axi4_read", "axi4_write"]

_CHANNELS = {"aw": "write address", "w": "write data", "b": "write response",
             "ar": "read address", "r": "read data"}
_SIGNALS = {
    "valid": "valid", "ready": "ready", "id": "ID", "addr": "address in bytes",
    "len": "beats of the burst, less 1", "size": "2^size bytes a beat", "burst": "burst type",
    "lock": "lock type", "cache": "memory type", "prot": "protection type", "data": "data",
    "strb": "byte strobes", "last": "last beat of the burst", "resp": "response"}

MEANING = {f"{channel}{signal}": f"{channel_text}: {text}"
           for channel, channel_text in _CHANNELS.items() for signal, text in _SIGNALS.items()}
"""What each signal of AXI4 and AXI4-Lite is, by name."""


def _address(channel, bits):
    return {
        f"{channel}valid": Out(1), f"{channel}ready": In(1), f"{channel}id": Out(1),
        f"{channel}addr": Out(bits), f"{channel}len": Out(8), f"{channel}size": Out(3),
        f"{channel}burst": Out(2), f"{channel}lock": Out(1), f"{channel}cache": Out(4),
        f"{channel}prot": Out(3),
    }


def axi4_read(data_bits):
    """AXI4 read address and read data channels, 32-bit addresses, a one-bit ID."""
    return Signature(_address("ar", 32) | {
        "rvalid": In(1), "rready": Out(1), "rid": In(1), "rdata": In(data_bits),
        "rresp": In(2), "rlast": In(1),
    })


def axi4_write(data_bits):
    """AXI4 write address, write data and write response channels."""
    return Signature(_address("aw", 32) | {
        "wvalid": Out(1), "wready": In(1), "wdata": Out(data_bits), "wstrb": Out(data_bits // 8),
        "wlast": Out(1),
        "bvalid": In(1), "bready": Out(1), "bid": In(1), "bresp": In(2),
    })


def axi4_lite(address_bits):
    """AXI4-Lite with 32-bit data."""
    return Signature({
        "awvalid": Out(1), "awready": In(1), "awaddr": Out(address_bits), "awprot": Out(3),
        "wvalid": Out(1), "wready": In(1), "wdata": Out(32), "wstrb": Out(4),
        "bvalid": In(1), "bready": Out(1), "bresp": In(2),
        "arvalid": Out(1), "arready": In(1), "araddr": Out(address_bits), "arprot": Out(3),
        "rvalid": In(1), "rready": Out(1), "rdata": In(32), "rresp": In(2),
    })
