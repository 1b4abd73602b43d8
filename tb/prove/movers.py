# SPDX-License-Identifier: Apache-2.0
"""Proofs of LOAD and STORE, and of the walker that both are made of."""

from amaranth import *

from hw.descriptor import Target
from hw.dma.load import Load
from hw.dma.payloads import BEAT, TRANSFER
from hw.dma.store import Store
from hw.dma.transfer_walker import OWNER, TransferWalker
from hw.regmap import ErrorCode
from tb.prove.ports import in_queue, queue_sound
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one

__all__ = ["PROOFS"]

_TAKERS = ("memory_jobs", "buffer_jobs", "owners")
"""What takes a transfer in the walker."""


def _owners(p: Properties, i, put, get, taken, path: str = "") -> Signal:
    """Follow the owner of a transfer through the walker's register and queue; return how many
    are inside."""
    def owner(transfer):
        return Cat(transfer[name] for name in OWNER.members)

    waiting, before, element, level = follow_one(p, put, get, owner(i), taken, 17, "owners: ")
    queued = queue_sound(p, f"{path}owners", 16)
    walker = path.removesuffix(".")
    held = owner(p.view(TRANSFER, "i", walker))
    p.invariant(queued + p.signal("held", walker) == level)
    p.invariant(Mux(before == queued, held, in_queue(p, f"{path}owners", before)) == element,
                waiting)
    return level


def _skids_sound(p: Properties, path: str = "") -> None:
    for skid in ("burst_skid", "beat_skid"):
        p.invariant(p.signal("o__valid", path + skid), p.signal("spare_valid", path + skid))


@proof(TransferWalker, reach=20, bugs=[
    Bug("a transfer goes to one of the three alone", "taker.valid.eq(goes)",
        "taker.valid.eq(held)"),
    Bug("goes on while one of the three is full", "for taker in takers).all()",
        "for taker in takers).any()"),
    Bug("a transfer goes on twice", "Mux(held, ~goes, self.i.valid)", "held | self.i.valid"),
    Bug("one is taken while another waits", "self.i.ready.eq(~held)",
        "self.i.ready.eq(~held | goes)"),
    Bug("what waits is replaced", "with m.If(~held):", "with m.If(1):"),
    Bug("the buffer is walked in memory's steps",
        "buffer_jobs.i.payload.step_1.eq(i.buffer_step_1)",
        "buffer_jobs.i.payload.step_1.eq(i.step_1)"),
    Bug("idle while a transfer is under way", "self.idle.eq(~owners.o.valid & ~held)",
        "self.idle.eq(~memory_jobs.o.valid & ~held)"),
    Bug("idle while a transfer waits", "self.idle.eq(~owners.o.valid & ~held)",
        "self.idle.eq(~owners.o.valid)"),
])
def _transfer_walker(p: Properties, block: type) -> None:
    """A transfer goes to both sides and to the owners at once, whole, and in order."""
    dut, m = p.add(block(64)), p.m
    i = dut.i.payload
    put, get = dut.i.valid & dut.i.ready, dut.o_owner.valid & dut.o_owner.ready
    level = _owners(p, i, put, get, dut.o_owner.payload)
    room = [p.signal("i__ready", part) for part in _TAKERS]
    goes = p.signal("i__valid", "owners") & room[-1]
    given, here = Signal.like(i, name="given"), p.register(1, "here")
    with m.If(put):
        m.d.sync += [given.eq(i), here.eq(1)]
    with m.Elif(goes):
        m.d.sync += here.eq(0)
    for part, ready in zip(_TAKERS, room, strict=True):
        p.claim("memory side, buffer side and owners take a transfer together",
                (p.signal("i__valid", part) & ready) == goes)
    p.claim("a transfer goes on once, when all three have room", goes == (here & Cat(room).all()))
    p.claim("one is taken exactly while none waits", dut.i.ready == ~here)
    for part, names in (("memory_jobs", ("address", "step_1", "step_2")),
                        ("buffer_jobs", ("buffer", "buffer_step_1", "buffer_step_2"))):
        job = p.signal("i__payload", part)
        wanted = Cat(given[name] for name in (
            names[0], "length", "count_1", "count_2", *names[1:], "beat_step", "index", "layer"))
        p.claim("each side gets its addresses and steps", job == wanted, goes)
    p.claim("idle exactly when no transfer is under way", dut.idle == (level == 0))
    p.holds("bursts", dut.o_burst)
    p.holds("beats", dut.o_beat)
    p.holds("owners", dut.o_owner)
    _skids_sound(p)
    p.invariant(p.signal("held") == here)
    p.invariant(p.view(TRANSFER, "i").as_value() == given.as_value(), here)
    p.cover("bursts and beats come", dut.o_burst.valid & dut.o_beat.valid)
    p.cover("a transfer is taken two cycles after another", put & p.past(p.past(put)))


@proof(Load, reach=14, bugs=[
    Bug("a beat is lost while the buffer waits", "move.eq(both & free & ~closed)",
        "move.eq(both & ~closed)"),
    Bug("writes outside the buffer", "self.load_valid.eq(move & ~outside & ~word.error)",
        "self.load_valid.eq(move & ~word.error)"),
    Bug("writes what memory answered with an error",
        "self.load_valid.eq(move & ~outside & ~word.error)", "self.load_valid.eq(move & ~outside)"),
    Bug("posts with every beat", "Mux(move & beat.last & ~outside", "Mux(move & ~outside"),
    Bug("posts before the buffer took the beat",
        "self.post.eq(post),\n", "self.post.eq(owner.post),\n"),
    Bug("goes on after an error", "failed.eq(1), ", ""),
    Bug("takes data without a place", "skid.o.ready.eq(move | closed)",
        "skid.o.ready.eq(free | closed)"),
    Bug("names a descriptor too late", "with m.If(~failed):", "with m.If(failed):"),
    Bug("idle after an error", "~self.load_valid & ~failed)", "~self.load_valid)"),
])
def _load(p: Properties, block: type) -> None:
    """Each beat goes to its place, inside its buffer; a transfer posts behind its last."""
    dut, m = p.add(block(MINUTE)), p.m
    owner = p.view(OWNER, "o__payload", "walker.owners")
    beat_valid, beat = p.signal("o__valid", "walker.beat_skid"), p.view(
        BEAT, "o__payload", "walker.beat_skid")
    # data cross a skid, in order; what leaves it is written, or dropped when closed
    word = p.view(dut.i_data.payload.shape(), "o__payload", "skid")
    came, wrote = p.signal("o__valid", "skid") & p.signal(
        "o__ready", "skid"), dut.load_valid & dut.load_ready
    inside, place, datum, words = follow_one(
        p, dut.i_data.valid & dut.i_data.ready, came, dut.i_data.payload, word, 2, "data: ")
    in_first, in_spare = p.signal("o__valid", "skid"), p.signal("spare_valid", "skid")
    p.invariant(words == in_first + in_spare)
    p.invariant(in_first, in_spare)
    p.invariant(Mux(place == 0, word.as_value(), p.signal("spare", "skid")) == datum, inside)
    p.claim("data are taken while two fit", dut.i_data.ready == (words != 2))
    step = beat_valid & p.signal("o_beat__ready", "walker")
    failed = p.register(1, "failed")
    errors = p.count(dut.error.code != 0)
    p.claim("a beat of memory and a place in the buffer go together", step,
            came & ~dut.stop & ~failed)
    p.claim("no place goes without its beat", came & ~dut.stop & ~failed, step)
    depths = Array(dut.target_beats()[target] for target in range(4))
    limit = p.register(24, "limit")
    with m.Switch(owner.target):
        for target in Target:
            with m.Case(target):
                m.d.comb += limit.eq(depths[int(target)])
    wrong = step & ((beat.beat >= limit) | word.error)
    m.d.sync += failed.eq(failed | wrong)
    good = step & ~wrong
    put = Cat(word.data, owner.target, beat.beat)
    waiting, _, element, level = follow_one(
        p, good, wrote, put, Cat(dut.load_data, dut.load_target, dut.load_beat), 1, "beats: ")
    p.invariant(level == dut.load_valid)
    p.invariant(Cat(dut.load_data, dut.load_target, dut.load_beat) == element, waiting)
    for target, beats in dut.target_beats().items():
        p.claim("nothing outside the buffer is written", dut.load_beat < beats,
                dut.load_valid & (dut.load_target == target))
    sent = Cat(dut.load_target, dut.load_beat, dut.load_data)
    p.claim("a write holds until taken", dut.load_valid & (sent == p.past(sent)),
            p.past(dut.load_valid & ~dut.load_ready))
    posts = p.register(16, "posts")         # of the beat on its way to the buffer
    with m.If(good):
        m.d.sync += posts.eq(Mux(beat.last, owner.post, 0))
    p.claim("a transfer posts when the buffer took its last beat, and only then",
            dut.post == p.past(Mux(wrote, posts, 0)))
    p.invariant(p.signal("post") == Mux(dut.load_valid, posts, 0))
    p.claim("the first wrong beat is reported",
            (dut.error.code != 0) & (errors == 0), p.past(wrong))
    p.claim("with the reason", dut.error.code == p.past(
        Mux(word.error, ErrorCode.READ_RESPONSE, ErrorCode.BUFFER_RANGE)), dut.error.code != 0)
    p.claim("with the descriptor of its transfer", (dut.error.index == p.past(owner.index))
            & (dut.error.layer == p.past(owner.layer)), p.past(wrong))
    p.claim("and nothing is reported without", p.past(wrong), dut.error.code != 0)
    p.claim("idle when no transfer is under way, and never after an error",
            dut.idle == ~(p.signal("o__valid", "walker.owners") | p.signal("held", "walker")
                          | dut.load_valid | failed))
    p.claim("nothing is written behind it", ~good, failed)
    p.claim("data that come when closed are dropped, from the next cycle on", dut.i_data.ready,
            p.past(dut.stop | failed))
    p.invariant(p.signal("failed") == failed)
    p.invariant(errors == 0, ~failed)
    p.invariant(dut.error.code == 0, ~failed)
    p.cover("a transfer of two beats posts", (dut.post != 0) & (p.count(wrote) == 2))


@proof(Store, reach=22, small={"_DEPTH": 2}, bugs=[
    Bug("reads ahead of the room", "ask.eq(beat.valid & (room != 0)), beat.ready.eq(room != 0)",
        "ask.eq(beat.valid), beat.ready.eq(1)"),
    Bug("room comes back too early", "room - ask + given", "room - ask + arriving[1]"),
    Bug("data are taken a cycle early", "data.i.valid.eq(arriving[-1])",
        "data.i.valid.eq(arriving[1])"),
    Bug("posts without an end", "Mux(self.done, owner.post, 0)",
        "Mux(walker.o_owner.valid, owner.post, 0)"),
    Bug("a beat behind the last is not outside", "beat.payload.beat >= self.preset.out_beats",
        "beat.payload.beat > self.preset.out_beats"),
])
def _store(p: Properties, block: type) -> None:
    """Each beat goes to memory once and in order; a transfer posts at its end.

    The queue here holds two beats.
    """
    dut = p.add(block(MINUTE))
    i = dut.i.payload
    put = dut.i.valid & dut.i.ready
    owner = p.signal("o__payload", "walker.owners")
    transfers = _owners(p, i, put, dut.done, owner, "walker.")
    p.assume("memory ends only transfers that went on to it",
             transfers != p.signal("held", "walker"), dut.done)
    beat = p.view(BEAT, "o__payload", "walker.beat_skid")
    stepped = p.signal("o__valid", "walker.beat_skid") & p.signal("o_beat__ready", "walker")
    p.claim("a place is read when it is taken from the walk",
            dut.store_enable == p.past(stepped))
    p.claim("the place of the walk", dut.store_beat == p.past(beat.beat), dut.store_enable)
    came = p.past(p.past(p.past(dut.store_enable)))
    gave = dut.o_data.valid & dut.o_data.ready
    waiting, before, element, level = follow_one(
        p, came, gave, dut.store_data, dut.o_data.payload, 2, "data: ")
    p.invariant(queue_sound(p, "data", 2) == level)
    p.invariant(in_queue(p, "data", before) == element, waiting)
    arriving = p.signal("arriving")
    p.invariant(came == arriving[2])
    p.invariant(p.past(p.past(dut.store_enable)) == arriving[1])
    p.invariant(p.past(dut.store_enable) == arriving[0])
    p.claim("what was read ahead always fits", level != 2, came)
    p.invariant(p.signal("room") + level + sum(arriving) + dut.store_enable == 2)
    p.holds("data", dut.o_data)
    p.holds("bursts", dut.o_burst)
    _skids_sound(p, "walker.")
    p.claim("the transfer that memory ended posts, nothing else",
            dut.post == Mux(dut.done, OWNER(owner).post, 0))
    p.claim("idle exactly when no transfer is under way", dut.idle == (transfers == 0))
    outside = p.past(stepped & (beat.beat >= MINUTE.out_beats))
    p.claim("a place outside the buffer and an error answer are reported",
            (dut.error.code != 0) == (outside | p.past(dut.failed)))
    p.claim("with the descriptor's number", dut.error.index == p.past(beat.index),
            outside & ~p.past(dut.failed))
    p.cover("three beats are given", p.count(gave) == 3)
    p.cover("a transfer posts", dut.post != 0)


PROOFS = (_transfer_walker, _load, _store)
