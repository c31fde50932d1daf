"""A store of one's own: on SQLAlchemy Core, so on whatever database your team runs.

It asks little of the database: transactions, and a row that an UPDATE locks. Every write begins by updating one row,
so writes come one after the other; every read is one statement, so it sees one state. Keys and texts are bytes, which
all databases compare and sort alike. Unlike batchkit's own stores it does not notice that it was copied or restored.
"""

import json
from contextlib import contextmanager
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, String, Table, Text

from batchkit.clock import SystemClock
from batchkit.digests import run_digest
from batchkit.errors import DuplicateKeys, LeaseLost, OverBudget, StoreError, Unresolved
from batchkit.ids import row_id
from batchkit.model import (
    PAGE,
    Applied,
    BatchFacts,
    Lease,
    LedgerLine,
    Members,
    ResultView,
    RowView,
    RunFacts,
    Tally,
    Usage,
)
from batchkit.reasons import Reason
from batchkit.states import (
    ROW_TRANSITIONS,
    UNRESOLVED,
    BatchState,
    RowEvent,
    RowState,
    RunState,
    after,
    outcome,
)
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.frozen import changed, check_end, check_next, frozen_page
from batchkit.storage.pages import content, join_lines, pack, page_digest, unpack
from batchkit.storage.records import (
    after_move,
    as_batch,
    as_run,
    check_move,
    check_open,
    check_rows,
    dump,
    dump_needs,
    moved_values,
)
from batchkit.storage.seal import repeats
from batchkit.storage.settled import check_events, first_of_each

META = sa.MetaData()
ID = BigInteger().with_variant(Integer, "sqlite")
KEY = LargeBinary(500)
LOCK = Table("store", META, Column("id", Integer, primary_key=True), Column("writes", ID, nullable=False))
# In the order in which `as_run` and `as_batch` take them.
RUN = Table("run", META, Column("id", ID, primary_key=True), Column("name", String(300), unique=True),
    Column("spec", String(64)), Column("parent", ID), Column("options", Text), Column("state", String(20)),
    Column("rows", Integer, default=0), Column("digest", String(64)), Column("created_at", Float(53)),
    Column("needs", Text, default="[]"), Column("seq", ID, default=0), Column("epoch", ID, default=0),
    Column("owner", String(300), default=""), Column("until", Float(53), default=0.0), Column("ttl", Float(53)))  # fmt: skip
BATCH = Table("batch", META, Column("id", ID, primary_key=True), Column("run", ID), Column("state", String(20)),
    Column("nonce", String(20), unique=True), Column("count", Integer), Column("size", ID), Column("base_url", Text),
    Column("organization", Text), Column("workspace", Text), Column("head_id", Text), Column("head_at", Float(53)),
    Column("reserved", ID), Column("deadline", Float(53)), Column("created_at", Float(53)), Column("spent", ID, default=0),
    Column("lines", Integer, default=0), Column("claim", Text, default=""), Column("remote_id", Text),
    Column("sent_at", Float(53)), Column("expires_at", Float(53)), Column("held_from", String(20)), Column("need", Text),
    Column("notes", Text, default="{}"), Column("members", LargeBinary(2**24)))  # fmt: skip
MOVED = "state claim remote_id sent_at expires_at reserved held_from need notes spent id".split()
ROW = Table("row", META, Column("id", ID, primary_key=True, autoincrement=False), Column("run", ID), Column("key", KEY),
    Column("line", LargeBinary(2**24)), Column("size", Integer), Column("state", String(20)), Column("reason", String(40)),
    Column("tier", Integer), Column("tries", Integer), Column("resends", Integer), Column("batch", ID), Column("result", ID),
    Column("cost", ID), Column("answers", Integer), Column("detail", LargeBinary(2**16)),
    sa.Index("row_run_key", "run", "key"))  # fmt: skip
TOKENS = Usage._fields
RESULT = Table("result", META, Column("id", ID, primary_key=True, autoincrement=False), Column("row", ID),
    Column("batch", ID), Column("event", String(30)), Column("tier", Integer), Column("verdict", String(40)),
    Column("detail", LargeBinary(2**16)), Column("answer", LargeBinary(2**24)), *(Column(name, Integer) for name in TOKENS),
    Column("cost", ID), Column("model", Text), Column("by", Text), Column("run", ID, index=True))  # fmt: skip
DOCUMENT = Table("document", META, Column("kind", String(20), primary_key=True), Column("key", KEY, primary_key=True),
    Column("body", LargeBinary(2**24)))  # fmt: skip
STAGED = Table("staged", META, Column("series", ID, primary_key=True, autoincrement=False), Column("key", KEY, primary_key=True),
    Column("row", ID))  # fmt: skip


def raw(text):
    return text.encode("utf-8", "surrogatepass")


def text(raw):
    return raw.decode("utf-8", "surrogatepass")


def value(member):
    return None if member is None else member.value


def reason(text):
    return None if text is None else Reason(text)


def usage_of(tokens):
    return None if tokens[0] is None else Usage(*tokens)


def some(ids):
    """Give ids in parts that a statement takes."""
    return (ids[n : n + 1000] for n in range(0, len(ids), 1000))


class SQLAlchemyStore:
    def __init__(self, engine, *, clock=None):
        self._engine, self._clock = engine, clock or SystemClock()
        META.create_all(engine)
        with engine.begin() as c:
            if c.scalar(sa.select(LOCK.c.id)) is None:
                c.execute(LOCK.insert().values(id=1, writes=0))

    def now(self):
        return self._clock.now()

    def close(self):
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None

    @contextmanager
    def _read(self):
        if self._engine is None:
            raise StoreError("this store is closed; open it again to use it")
        try:
            with self._engine.begin() as c:
                yield c
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"the database failed; nothing was changed ({error})") from error

    @contextmanager
    def _write(self):
        with self._read() as c:
            c.execute(LOCK.update().values(writes=LOCK.c.writes + 1))  # whoever else writes waits here
            yield c

    # -- runs

    def open_run(self, new):
        with self._write() as c:
            if found := c.execute(sa.select(RUN).where(RUN.c.name == new.name)).first():
                return as_run(found), False
            if new.parent is not None:
                self._run(c, new.parent)
            c.execute(RUN.insert().values(name=new.name, spec=new.spec, parent=new.parent, options=dump(dict(new.options)),
                state=RunState.FREEZING.value, created_at=self.now()))  # fmt: skip
            return as_run(c.execute(sa.select(RUN).where(RUN.c.name == new.name)).one()), True

    def runs(self, *, name=None, parent=None):
        wanted = [RUN.c.name == name] * (name is not None) + [RUN.c.parent == parent] * (parent is not None)
        with self._read() as c:
            return [as_run(run) for run in c.execute(sa.select(RUN).where(*wanted).order_by(RUN.c.id))]

    def acquire(self, run, owner, ttl):
        with self._write() as c:
            held, until = self._holder(c, run), self.now() + ttl
            if held and held.owner != owner:
                return None
            self._set(
                c, RUN, run, owner=owner, until=until, ttl=ttl, epoch=RUN.c.epoch + 1, seq=RUN.c.seq + 1
            )
            return Lease(
                run=run,
                owner=owner,
                epoch=c.scalar(sa.select(RUN.c.epoch).where(RUN.c.id == run)),
                until=until,
            )

    def holder(self, run):
        with self._read() as c:
            return self._holder(c, run)

    def release(self, lease):
        with self._write() as c:
            c.execute(self._held(lease).values(owner="", until=0.0, seq=RUN.c.seq + 1))

    def move_run(self, lease, *, expect, to, facts=RunFacts()):  # noqa: B008
        with self._write() as c:
            run = self._fence(c, lease)
            check_move(run, expect, to, facts)
            if facts.refreeze is not None:
                self._drop(c, run.id)
                self._set(c, RUN, run.id, spec=facts.refreeze)
            told = {
                "needs": facts.needs and dump_needs(facts.needs),
                "options": facts.options and dump(dict(facts.options)),
            }
            if facts.needs == ():
                told["needs"] = "[]"
            self._set(
                c, RUN, run.id, state=to.value, **{name: new for name, new in told.items() if new is not None}
            )
            self._tell(c, run, facts)
            return self._run(c, run.id)

    def _run(self, c, run):
        found = c.execute(sa.select(RUN).where(RUN.c.id == run)).first()
        if found is None:
            raise StoreError(f"the store holds no run {run}")
        return as_run(found)

    def _holder(self, c, run):
        self._run(c, run)
        owner, epoch, until = c.execute(
            sa.select(RUN.c.owner, RUN.c.epoch, RUN.c.until).where(RUN.c.id == run)
        ).one()
        return Lease(run=run, owner=owner, epoch=epoch, until=until) if owner and until > self.now() else None

    def _held(self, lease):
        return RUN.update().where(
            RUN.c.id == lease.run, RUN.c.epoch == lease.epoch, RUN.c.owner == lease.owner
        )

    def _fence(self, c, lease):
        if not c.execute(self._held(lease).values(seq=RUN.c.seq + 1, until=self.now() + RUN.c.ttl)).rowcount:
            raise LeaseLost(f"run {lease.run}: the lease of epoch {lease.epoch} is over; nothing was written")
        return self._run(c, lease.run)

    def _set(self, c, table, id_, **values):
        c.execute(table.update().where(table.c.id == id_).values(**values))

    def _tell(self, c, run, facts):
        for event in facts.events:
            self._append(c, "event", event_scope(run.id), encode_event(event, self.now()))

    # -- rows

    def freeze(self, lease, page, *, seal=None):
        refused = None
        with self._write() as c:
            run = self._fence(c, lease)
            if page:
                run = self._add(c, run, page)
            if seal is not None:
                check_end(run, page, seal)
                if run.state is RunState.FREEZING:
                    try:
                        self._seal(c, run, seal)
                    except DuplicateKeys as error:  # the drop must be committed, so the raise waits
                        self._drop(c, run.id)
                        refused = error
        if refused is not None:
            raise refused
        return run.rows

    def _add(self, c, run, page):
        made, base = frozen_page(page), row_id(run.id, page[0].position)
        if made.first < run.rows:
            held = sa.select(ROW.c.line).where(ROW.c.run == run.id, ROW.c.id >= base, ROW.c.id < base + PAGE)
            joined = join_lines(c.scalars(held.order_by(ROW.c.id)))
            if page_digest(joined) != made.digest:
                raise changed(run, made, joined)
            return run
        check_next(run, made.first)
        c.execute(ROW.insert(), [
            {"id": row_id(run.id, r.position), "run": run.id, "key": raw(r.key), "line": r.line, "size": r.size,
             "state": after(None, r.event).value, "reason": value(r.reason), "tier": 0, "tries": 0, "resends": 0,
             "result": r.result, "cost": 0, "answers": 0, "detail": raw(r.detail)} for r in page])  # fmt: skip
        self._set(c, RUN, run.id, rows=made.first + made.records)
        return self._run(c, run.id)

    def _seal(self, c, run, seal):
        def pages():
            keys = c.scalars(sa.select(ROW.c.key).where(ROW.c.run == run.id).order_by(ROW.c.id)).partitions(
                PAGE
            )
            yield from ((n * PAGE, list(map(text, page))) for n, page in enumerate(keys))

        def line(position):
            return c.scalar(sa.select(ROW.c.line).where(ROW.c.id == row_id(run.id, position)))

        for part in some([row_id(run.id, position) for position in repeats(pages, line, seal.on_duplicate)]):
            kept = ROW.c.id.in_(part), ROW.c.state != RowState.QUARANTINED.value
            to = {
                "state": RowState.QUARANTINED.value,
                "reason": Reason.INPUT_DUPLICATE_KEY.value,
                "result": None,
            }
            c.execute(ROW.update().where(*kept).values(**to))
        self._set(c, RUN, run.id, state=RunState.OPEN.value, digest=run_digest(self._digests(c, run.id)))

    def _drop(self, c, run):
        c.execute(ROW.delete().where(ROW.c.run == run))
        self._set(c, RUN, run, rows=0)

    def tally(self, run):
        by = ROW.c.state, ROW.c.reason, ROW.c.tier
        with self._read() as c:
            found = c.execute(sa.select(*by, sa.func.count()).where(ROW.c.run == run).group_by(*by))
            return Tally(counts={(RowState(s), reason(r), tier): count for s, r, tier, count in found})

    def page(self, run, where, *, after=None, limit=1000):
        wanted = [ROW.c.run == run, ROW.c.id > (after or 0)]
        for column, members in (
            (ROW.c.state, where.states),
            (ROW.c.reason, where.reasons),
            (ROW.c.tier, where.tiers),
        ):
            if members is not None:
                wanted.append(column.in_([getattr(member, "value", member) for member in members]))
        if where.batch is not None:
            wanted.append(ROW.c.batch == where.batch)
        if where.outcomes is not None:
            quarantined = RowState.QUARANTINED
            reasons = [
                why.value if why else ""
                for why in (None, *Reason)
                if outcome(quarantined, why) in where.outcomes
            ]
            states = [
                s.value for s in RowState if s is not quarantined and outcome(s, None) in where.outcomes
            ]
            refused = sa.and_(
                ROW.c.state == quarantined.value, sa.func.coalesce(ROW.c.reason, "").in_(reasons)
            )
            wanted.append(sa.or_(ROW.c.state.in_(states), refused))
        with self._read() as c:
            found = c.execute(self._views().where(*wanted).order_by(ROW.c.id).limit(limit))
            return [self._view(row, where.source, where.results, where.answers) for row in found]

    def rows(self, ids, *, source=False, results=False):
        found = {}
        with self._read() as c:
            for part in some(list(ids)):
                for row in c.execute(self._views().where(ROW.c.id.in_(part))):
                    found[row.id] = self._view(row, source, results, False)
        if unknown := set(ids) - set(found):
            raise StoreError(f"the store holds no row {min(unknown)}")
        return [found[id_] for id_ in ids]

    def _views(self):
        told = [RESULT.c[name].label(f"r_{name}") for name in ("detail", "answer", *TOKENS, "model", "by")]
        return sa.select(ROW, *told).outerjoin(RESULT, RESULT.c.id == ROW.c.result)

    def _view(self, row, source, results, answers):
        told = ("", row.r_answer if answers else None)
        if results:
            latest = usage_of([getattr(row, f"r_{name}") for name in TOKENS])
            detail = row.detail if row.r_detail is None else row.r_detail
            told = (text(detail), row.r_answer, latest, row.r_model or "", row.r_by or "")
        return RowView(row.id, text(row.key), RowState(row.state), reason(row.reason), row.tier, row.tries, row.resends,
            row.size, row.batch, row.result, row.cost, row.answers, json.loads(row.line)[2] if source else None, *told)  # fmt: skip

    def locate(self, run, keys):
        found = {}
        with self._read() as c:
            for part in some([raw(key) for key in keys if key]):
                asked = sa.select(ROW.c.key, ROW.c.id, ROW.c.reason).where(
                    ROW.c.run == run, ROW.c.key.in_(part)
                )
                for key, id_, why in c.execute(asked.order_by(ROW.c.id)):
                    repeat = why == Reason.INPUT_DUPLICATE_KEY.value
                    if key not in found or (found[key][0] and not repeat):
                        found[key] = repeat, id_
        return {text(key): id_ for key, (_, id_) in found.items()}

    def digests(self, run):
        with self._read() as c:
            return self._digests(c, run)

    def _digests(self, c, run):
        lines = c.scalars(sa.select(ROW.c.line).where(ROW.c.run == run).order_by(ROW.c.id))
        return [page_digest(join_lines(page)) for page in lines.partitions(PAGE)]

    def results(self, run, *, after=None, limit=1000):
        asked = sa.select(RESULT).where(RESULT.c.run == run, RESULT.c.id > (after or 0))
        with self._read() as c:
            return [
                ResultView(r.id, r.row, r.batch, RowEvent(r.event), r.tier, reason(r.verdict), text(r.detail), r.answer,
                    usage_of([getattr(r, name) for name in TOKENS]), r.cost, r.model, r.by)
                for r in c.execute(asked.order_by(RESULT.c.id).limit(limit))]  # fmt: skip

    def settled_order(self, results):
        with self._read() as c:
            last = c.scalar(sa.select(sa.func.coalesce(sa.func.max(RESULT.c.id), 0)))
        if not all(0 < result <= last for result in results):
            raise StoreError("the store holds not all of these results")
        return results  # one number for all runs, drawn while the store is locked

    def ledger(self, run):
        r = RESULT.c
        stands = sa.case((sa.and_(ROW.c.result == r.id, ROW.c.state == RowState.SUCCEEDED.value), 1), else_=0)
        by = r.batch, r.event, r.tier, r.verdict, r.model, stands, sa.case((r.input.is_(None), 0), else_=1)
        sums = [sa.func.coalesce(sa.func.sum(r[name]), 0) for name in (*TOKENS, "cost")]
        asked = sa.select(*(part.label(f"by{n}") for n, part in enumerate(by)), sa.func.count(), *sums)
        asked = (
            asked.join(ROW, ROW.c.id == r.row)
            .where(r.run == run)
            .group_by(*(sa.text(f"by{n}") for n in range(7)))
        )
        with self._read() as c:
            return [
                LedgerLine(batch, RowEvent(event), tier, reason(verdict), model, bool(stands), count,
                    Usage(*map(int, tokens)) if told else None, int(cost))
                for batch, event, tier, verdict, model, stands, told, count, *tokens, cost
                in c.execute(asked.order_by(sa.func.min(r.id)))]  # fmt: skip

    def index_staged(self, lease, runs):
        with self._write() as c:
            self._fence(c, lease)
            for run in sorted(runs):
                staged = sa.select(sa.literal(min(runs)), ROW.c.key, ROW.c.id)
                staged = staged.where(ROW.c.run == run, ROW.c.state == RowState.SUCCEEDED.value)
                mine = STAGED.c.series == min(runs)
                known = sa.select(STAGED.c.key).where(mine)
                keys = staged.with_only_columns(ROW.c.key)
                older = STAGED.c.row < row_id(run + 1, 0)
                c.execute(STAGED.delete().where(mine, older, STAGED.c.key.in_(keys)))
                c.execute(
                    STAGED.insert().from_select(
                        ["series", "key", "row"], staged.where(ROW.c.key.not_in(known))
                    )
                )

    def find_staged(self, series, spec, page):
        found = {}
        asked = sa.select(STAGED.c.key, ROW.c.line, ROW.c.result).join(ROW, ROW.c.id == STAGED.c.row)
        asked = asked.join(RUN, RUN.c.id == ROW.c.run).where(
            STAGED.c.series == series, ROW.c.state == RowState.SUCCEEDED.value, RUN.c.spec == spec
        )
        with self._read() as c:
            for part in some([raw(row.key) for row in page]):
                for key, line, result in c.execute(asked.where(STAGED.c.key.in_(part))):
                    found[text(key), content(line)] = result
        return [found.get((row.key, content(row.line))) for row in page]

    # -- batches

    def intend(self, lease, intent, rows):
        place, unresolved = intent.place, [state.value for state in UNRESOLVED]
        held = sa.and_(BATCH.c.state == BatchState.HELD.value, BATCH.c.held_from == BatchState.DOUBTFUL.value)
        with self._write() as c:
            run = self._fence(c, lease)
            check_open(run)
            here = self._at(place), sa.or_(BATCH.c.state.in_(unresolved), held)
            if c.execute(sa.select(BATCH.c.id).where(*here)).first():
                raise Unresolved(
                    "another batch of this place is not settled; until it is no other is made here"
                )
            if c.execute(sa.select(BATCH.c.id).where(BATCH.c.nonce == intent.nonce)).first():
                raise StoreError(f"the nonce {intent.nonce} was used before; draw another")
            sums = [sa.func.coalesce(sa.func.sum(column), 0) for column in (BATCH.c.spent, BATCH.c.reserved)]
            spent, reserved = map(int, c.execute(sa.select(*sums)).one())
            if intent.cap is not None and spent + reserved + intent.reserve > intent.cap:
                raise OverBudget(wanted=intent.reserve, spent=spent, reserved=reserved, cap=intent.cap)
            if not rows:
                raise StoreError("a batch has at least one row; nothing was written")
            check_rows(run, min(rows), max(rows))
            if len(set(rows)) < len(rows):
                raise StoreError("a row is given twice; no batch was made")
            c.execute(BATCH.insert().values(run=run.id, state=BatchState.INTENT.value, nonce=intent.nonce, count=len(rows),
                size=intent.size, base_url=place.base_url, organization=place.organization, workspace=place.workspace,
                head_id=intent.head and intent.head.remote_id, head_at=intent.head and intent.head.created_at,
                reserved=intent.reserve, deadline=intent.deadline, created_at=self.now(), members=pack(rows)))  # fmt: skip
            made = c.execute(sa.select(BATCH).where(BATCH.c.nonce == intent.nonce)).one()
            for part in some(list(rows)):
                pending = ROW.c.id.in_(part), ROW.c.state == RowState.PENDING.value
                taken = ROW.update().where(*pending).values(state=RowState.SUBMITTED.value, batch=made.id)
                if c.execute(taken).rowcount != len(part):
                    raise StoreError("a row is not pending; no batch was made")
            return as_batch(tuple(made)[:-1])

    def _at(self, place):
        return sa.and_(
            *(BATCH.c[name] == getattr(place, name) for name in ("base_url", "organization", "workspace"))
        )

    def batches(self, where):
        asked = sa.select(*list(BATCH.c)[:-1]).order_by(BATCH.c.id)
        if where.run is not None:
            asked = asked.where(BATCH.c.run == where.run)
        if where.states is not None:
            asked = asked.where(BATCH.c.state.in_([state.value for state in where.states]))
        if where.place is not None:
            asked = asked.where(self._at(where.place))
        if where.ids is not None:
            asked = asked.where(BATCH.c.id.in_(where.ids))
        with self._read() as c:
            return [as_batch(tuple(batch)) for batch in c.execute(asked)]

    def members(self, batch):
        with self._read() as c:
            packed = c.scalar(sa.select(BATCH.c.members).where(BATCH.c.id == batch))
        if packed is None:
            raise StoreError(f"the store holds no batch {batch}")
        return Members(batch=batch, rows=unpack(packed))

    def move_batch(self, lease, batch, *, expect, to, facts=BatchFacts(), free=False):  # noqa: B008
        with self._write() as c:
            run = self._fence(c, lease)
            moved = after_move(self._batch(c, run, batch), expect, to, facts)
            taken = BATCH.c.remote_id == moved.remote_id, BATCH.c.id != batch
            if moved.remote_id is not None and c.execute(sa.select(BATCH.c.id).where(*taken)).first():
                raise StoreError(
                    f"the remote batch {moved.remote_id} belongs to another batch; nothing was changed"
                )
            self._set(c, BATCH, batch, **dict(zip(MOVED[:-1], moved_values(moved), strict=False)))
            if free:
                inside = ROW.c.batch == batch, ROW.c.state == RowState.SUBMITTED.value
                c.execute(ROW.update().where(*inside).values(state=RowState.PENDING.value, batch=None))
            self._tell(c, run, facts)
            return moved

    def _batch(self, c, run, batch):
        found = c.execute(
            sa.select(*list(BATCH.c)[:-1]).where(BATCH.c.id == batch, BATCH.c.run == run.id)
        ).first()
        if found is None:
            raise StoreError(f"run {run.name!r} has no batch {batch}; nothing was changed")
        return as_batch(tuple(found))

    def settle(self, lease, source, page, *, by=""):
        check_events(page, source)
        items, ignored = first_of_each(page)
        with self._write() as c:
            run, standing = self._fence(c, lease), {}
            if source is not None:
                self._batch(c, run, source)
            if items:
                check_rows(run, items[0].row, items[-1].row)
            for part in some([item.row for item in items]):
                asked = sa.select(ROW.c.id, ROW.c.state, ROW.c.batch).where(ROW.c.id.in_(part))
                standing |= {row.id: (row.state, row.batch) for row in c.execute(asked)}
            number = c.scalar(sa.select(sa.func.coalesce(sa.func.max(RESULT.c.id), 0)))
            results, rows, cost = [], [], 0
            for item in items:
                state, batch = standing[item.row]
                origin, to = ROW_TRANSITIONS[item.event]
                if state != origin.value or batch not in (None, source):
                    ignored.append(item.row)
                    continue
                number, cost = number + 1, cost + item.cost
                results.append({"id": number, "run": run.id, "row": item.row, "batch": source, "event": item.event.value,
                    "tier": item.tier, "verdict": value(item.verdict), "detail": raw(item.detail), "answer": item.answer,
                    **dict(zip(TOKENS, item.usage or [None] * 5, strict=True)), "cost": item.cost, "model": item.model,
                    "by": by})  # fmt: skip
                rows.append({"row": item.row, "to": to.value, "why": value(item.reason), "t": item.tier, "y": item.tries,
                    "s": item.resends, "n": number, "more": item.cost if item.usage else 0, "one": int(bool(item.usage))})  # fmt: skip
            if results:
                b = sa.bindparam
                c.execute(RESULT.insert(), results)
                c.execute(ROW.update().where(ROW.c.id == b("row")).values(state=b("to"), reason=b("why"), tier=b("t"),
                    tries=b("y"), resends=b("s"), batch=None, result=b("n"), cost=ROW.c.cost + b("more"),
                    answers=ROW.c.answers + b("one")), rows)  # fmt: skip
            if source is not None:
                self._set(c, BATCH, source, lines=BATCH.c.lines + len(rows), spent=BATCH.c.spent + cost)
        return Applied(applied=len(rows), ignored=tuple(sorted(ignored)))

    def strangers(self, workspace, ids):
        known = {raw(f"{workspace}/{id_}"): id_ for id_ in ids}
        asked = sa.select(DOCUMENT.c.key).where(
            DOCUMENT.c.kind == "stranger", DOCUMENT.c.key.in_(list(known))
        )
        with self._read() as c:
            return frozenset(known[key] for key in c.scalars(asked))

    def dismiss(self, workspace, ids):
        with self._write() as c:
            for id_ in ids:
                self._keep(c, "stranger", f"{workspace}/{id_}", b"")

    # -- documents

    def put(self, kind, key, body):
        with self._write() as c:
            if self._keep(c, kind.value, key, body) != body:
                raise StoreError(
                    f"the {kind.value} document {key!r} exists with other content; documents do not change"
                )
        return sha256(body).hexdigest()

    def _keep(self, c, kind, key, body):
        """Keep a body, unless there is one under this key; give what is kept."""
        held = c.scalar(sa.select(DOCUMENT.c.body).where(DOCUMENT.c.kind == kind, DOCUMENT.c.key == raw(key)))
        if held is None:
            c.execute(DOCUMENT.insert().values(kind=kind, key=raw(key), body=body))
        return body if held is None else held

    def append(self, kind, scope, body):
        with self._write() as c:
            return self._append(c, kind.value, scope, body)

    def _append(self, c, kind, scope, body):
        low, high = raw(f"{scope}/"), raw(f"{scope}/:")
        asked = sa.select(DOCUMENT.c.key).where(
            DOCUMENT.c.kind == kind, DOCUMENT.c.key > low, DOCUMENT.c.key < high
        )
        numbers = (key[len(low) :] for key in c.scalars(asked.order_by(DOCUMENT.c.key.desc())))
        last = next((int(number) for number in numbers if len(number) == 12 and number.isdigit()), 0)
        key = f"{scope}/{last + 1:012d}"
        self._keep(c, kind, key, body)
        return key

    def get(self, kind, key):
        with self._read() as c:
            return c.scalar(
                sa.select(DOCUMENT.c.body).where(DOCUMENT.c.kind == kind.value, DOCUMENT.c.key == raw(key))
            )

    def docs(self, kind, *, scope="", after="", limit=None):
        asked = sa.select(DOCUMENT.c.key, DOCUMENT.c.body).where(DOCUMENT.c.kind == kind.value)
        asked = asked.where(DOCUMENT.c.key > raw(after)) if after else asked
        if scope:
            asked = asked.where(DOCUMENT.c.key >= raw(f"{scope}/"), DOCUMENT.c.key < raw(f"{scope}0"))
        with self._read() as c:
            return [(text(key), body) for key, body in c.execute(asked.order_by(DOCUMENT.c.key).limit(limit))]
