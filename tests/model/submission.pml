/* How a batch is sent: the protocol as a model, for exhaustive checking with spin.
 *
 * One row per run and one row per batch. A batch has a slot; the slot's number is its nonce and, if the
 * POST arrives, the number of the remote batch. Time is a tick of the server; every timer counts from an
 * event and stops at the largest value that matters, so that time itself has no end.
 *
 * Actors: movers (each may die or freeze once), the network with the provider, the clock.
 * Instances, claims and mutants are chosen with -D; `check.py` lists them.
 */

/* ---------------------------------------------------------------- the instance */

#ifndef L
#define L 1             /* latest arrival of a create after its last chunk left, in ticks */
#endif
#ifndef V
#define V 1             /* longest time from creation to the first listing */
#endif
#ifndef G
#define G 3             /* the grace: first to last clean reading */
#endif
#ifndef E
#define E 2             /* longest time that a listed batch runs */
#endif
#ifndef W
#define W 2             /* how long an absent batch is watched for */
#endif
#ifndef LEASE
#define LEASE 2
#endif
#ifndef K
#define K 2             /* attempts (slots) per run; the last one meets no fault, so that faults stop */
#endif
#ifndef RUNS
#define RUNS 1
#endif
#ifndef STRANGERS
#define STRANGERS 1
#endif
#ifndef EXPIRIES
#define EXPIRIES 0      /* how many batches may expire unpaid */
#endif
#ifndef DELETIONS
#define DELETIONS 0     /* how many suspects somebody else may delete */
#endif
#ifndef LONGEST
#define LONGEST 6       /* no doubt is left open for longer; counted only where something can last */
#endif
#if defined(ROTATION) || defined(STUCK)
#define LASTING
#define WATCH_CAP LONGEST
#else
#define WATCH_CAP W
#endif

#define SLOTS (RUNS * K)
#define STRANGER SLOTS  /* the remote batch of somebody else, with our count */
#define REMOTES (SLOTS + STRANGERS)
#define NOBODY 9
#define NONE 15

#define RUN(s) ((s) / K)
#ifdef ONE_STORE        /* two runs of one store instead of two stores */
#define STORE(r) 0
#else
#define STORE(r) (r)
#endif
#if RUNS > 1
#ifdef TWO_MOVERS
#define RUN_OF(m) ((m) == 2 -> 1 : 0)
#else
#define RUN_OF(m) ((m) == 1 -> 1 : 0)
#endif
#else
#define RUN_OF(m) 0
#endif

#define SAME(s, x) ((x) < SLOTS && STORE(RUN(x)) == STORE(RUN(s)))
#define BIT(x) (1 << (x))

/* ---------------------------------------------------------------- the store, durable */

mtype:row = { PENDING, SUBMITTED, DONE };
mtype:batch = { UNUSED, INTENT, SENDING, DOUBTFUL, LIVE, REJECTED, ABSENT, LATE, COLLECTED, HELD };
mtype:watch = { UNWATCHED, WATCHED, CLEAN, FOUND, INCONCLUSIVE };

mtype:row row[RUNS];
byte attempts[RUNS];            /* slots used */
byte holder[RUNS];              /* whose epoch is current */
byte left[RUNS];                /* ticks left of the lease */
mtype:batch batch[SLOTS];
bit place[SLOTS];               /* the workspace that the intent names */
byte span[SLOTS];               /* ticks since the first clean reading; NONE: no reading yet */
byte suspects[SLOTS];           /* remote batches seen and not yet opened, as bits */
#if DELETIONS > 0
byte gone[SLOTS];               /* those of a watch's suspects that were found to be deleted */
#define UNSETTLED(s) (suspects[s] & ~gone[s])
#else
#define UNSETTLED(s) suspects[s]
#endif
mtype:watch watch[SLOTS];
byte watched[SLOTS];            /* ticks since the watch began */
bit may_read[SLOTS];            /* one reading a tick */
byte strangers[RUNS];           /* opened and not ours, per store */
bit late_twin[RUNS];            /* an absent batch turned up, per store */
#ifdef LASTING
byte open_for[SLOTS];           /* ticks since the doubt began */
#endif

/* ---------------------------------------------------------------- the provider */

mtype:remote = { NOTHING, IN_FLIGHT, UNLISTED, RUNNING, STUCK_RUNNING, PAID, EXPIRED, DELETED, LOST };
mtype:remote remote[REMOTES];
byte age[REMOTES];              /* ticks in the present state */
bit where[REMOTES];             /* the workspace it is in */
bit answered[SLOTS];            /* the answer is on its way to the sender */
bit failed[SLOTS];              /* the sender gets an error, or waits in vain */
byte expiries = EXPIRIES;
byte deletions = DELETIONS;
/* Fairness would make everything happen in the end that may: from some moment on, nothing optional does. */
#if (defined(CLAIM_ENDS) || defined(CLAIM_FOUND)) && (STRANGERS > 0 || DELETIONS > 0 || defined(ROTATION))
#define QUIET_DOWN
bit quiet;
#define OPTIONAL !quiet
#else
#define OPTIONAL true
#endif

/* ---------------------------------------------------------------- the processes' own state */

mtype:step = { IDLE, BODY, LAST_CHUNK, WAITING };
mtype:step step[3];
bit faulty[3];                  /* has died or been frozen: once each */
bit key[3];                     /* the workspace that this process's credential opens */

byte i;
byte j;
byte found;
byte vanished;
hidden short t;                 /* for the stories only */

#define MAY_FAIL(s) ((s) % K < K - 1)
#define CREATED(x) (remote[x] == UNLISTED || remote[x] == RUNNING || remote[x] == PAID || remote[x] == DELETED)
#define SENT_AT_ALL(r) (CREATED(r * K) || CREATED(r * K + 1) || K > 2 && CREATED(r * K + K - 1))
#define LISTED(x) (remote[x] == RUNNING || remote[x] == STUCK_RUNNING || remote[x] == PAID || remote[x] == EXPIRED)
#define ENDED(x) (remote[x] == PAID || remote[x] == EXPIRED)
#define UNRESOLVED(s) (batch[s] == INTENT || batch[s] == SENDING || batch[s] == DOUBTFUL || batch[s] == HELD)
#define CLAIMED(s, x) (SAME(s, x) && (batch[x] == LIVE || batch[x] == COLLECTED || batch[x] == LATE))
#define DISMISSED(s, x) (strangers[STORE(RUN(s))] & BIT(x))
#define CANDIDATE(s, x) (LISTED(x) && where[x] == place[s] && !CLAIMED(s, x) && !DISMISSED(s, x))

/* Guards cannot loop, so "any" and "all" are written out. */
#if REMOTES == 2
#define ANY_REMOTE(p, a) (p(a, 0) || p(a, 1))
#elif REMOTES == 3
#define ANY_REMOTE(p, a) (p(a, 0) || p(a, 1) || p(a, 2))
#elif REMOTES == 4
#define ANY_REMOTE(p, a) (p(a, 0) || p(a, 1) || p(a, 2) || p(a, 3))
#else
#define ANY_REMOTE(p, a) (p(a, 0) || p(a, 1) || p(a, 2) || p(a, 3) || p(a, 4))
#endif
#if SLOTS == 2
#define ANY_SLOT(p, a, b) (p(a, b, 0) || p(a, b, 1))
#elif SLOTS == 3
#define ANY_SLOT(p, a, b) (p(a, b, 0) || p(a, b, 1) || p(a, b, 2))
#else
#define ANY_SLOT(p, a, b) (p(a, b, 0) || p(a, b, 1) || p(a, b, 2) || p(a, b, 3))
#endif

/* ---------------------------------------------------------------- the claims */

#ifdef CLAIM_ONCE       /* no two batches of one row are created, unless one of them expired unpaid */
#define PAID_AT_MOST 1
#endif

/* Not a claim: shows that the model gets here at all. */
inline reached(n) {
#ifdef REACH
    assert(n != REACH);
#endif
    skip
}

inline check_paid(r) {
#ifdef PAID_AT_MOST
    j = 0;
    for (i : r * K .. r * K + K - 1) { if :: CREATED(i) -> j++ :: else fi }
    assert(j <= PAID_AT_MOST);
    j = 0;
#endif
#ifdef CLAIM_ONE_TWIN   /* after one late twin a person decides: one store pays at most one batch too many */
    j = 0;
    for (i : 0 .. SLOTS - 1) { if :: CREATED(i) -> j++ :: else fi }
    for (i : 0 .. RUNS - 1) { if :: SENT_AT_ALL(i) -> j-- :: else fi }
    assert(j <= 1);
    j = 0;
#endif
    skip
}

inline check_created(s) {
#ifdef CLAIM_BOOKED     /* nothing is created once its watch has ended clean */
    assert(watch[s] != CLEAN);
#endif
    skip
}

inline check_adopted(s, x) {
#ifdef CLAIM_OURS       /* what is adopted carries our nonce */
    assert(s == x);
#endif
    skip
}

inline check_touched(s, x) {
#ifdef CLAIM_OURS       /* and nothing is done to a batch that is not */
    assert(SAME(s, x));
#endif
    skip
}

inline check_intent(s) {
#ifdef CLAIM_ONE_OPEN   /* at most one unresolved intent per store and place */
    j = 0;
    for (i : 0 .. SLOTS - 1) { if :: SAME(s, i) && UNRESOLVED(i) && place[i] == place[s] -> j++ :: else fi }
    assert(j <= 1);
    j = 0;
#endif
#ifdef CLAIM_SEEN       /* nor is a row whose twin stands in the list that was just read */
    for (i : RUN(s) * K .. RUN(s) * K + K - 1) {
        assert(!(batch[i] == ABSENT && watch[i] == WATCHED && CREATED(i) && LISTED(i) && where[i] == place[s] && where[i] == place[i]))
    }
#endif
#ifdef CLAIM_USED       /* a row with a paid answer in hand is not sent again */
    for (i : RUN(s) * K .. RUN(s) * K + K - 1) {
        assert(!((batch[i] == LATE || batch[i] == COLLECTED) && remote[i] == PAID))
    }
#endif
    skip
}

inline check_closed(s) {
#ifdef CLAIM_BOOKED     /* a watch that ended clean missed nothing: every twin is booked */
    assert(!CREATED(s) && remote[s] != IN_FLIGHT);
#endif
    skip
}

/* ---------------------------------------------------------------- rules, some of them breakable */

#if defined(MUTANT_NO_PLACE)
#define IN_PLACE(m, s) true
#else
#define IN_PLACE(m, s) (key[m] == place[s])
#endif

#if defined(MUTANT_THIS_NONCE_ONLY)
#define OF_THIS_STORE(s, x) false
#else
#define OF_THIS_STORE(s, x) SAME(s, x)
#endif

#if defined(MUTANT_HASHED_NONCE)      /* a copied store draws the same nonces */
#define OURS(s, x) ((x) < SLOTS && (x) % K == (s) % K)
#else
#define OURS(s, x) ((x) == (s))
#endif

/* Nobody holds the lease: a pass of one commit takes it and gives it back. */
#define FREE(r) (left[r] == 0)

inline release(r) { holder[r] = NOBODY; left[r] = 0 }

inline settle(s) {
    batch[s] = COLLECTED;
    span[s] = NONE; suspects[s] = 0; may_read[s] = 0;
    if
    :: remote[s] == PAID -> row[RUN(s)] = DONE
    :: else -> row[RUN(s)] = PENDING
    fi
}

inline book_late(s) {
    batch[s] = LATE; watch[s] = FOUND; watched[s] = 0; suspects[s] = 0; may_read[s] = 0;
#if DELETIONS > 0
    gone[s] = 0;
#endif
    late_twin[STORE(RUN(s))] = 1;
    reached(3);
    printf("t=%d  the twin of batch %d is found: LATE\n", t, s)
}

inline hold(s) {
    batch[s] = HELD; span[s] = NONE; suspects[s] = 0; may_read[s] = 0;
    reached(4);
    printf("t=%d  batch %d is HELD for a person\n", t, s)
}

/* A suspect is not there any more. A doubt is held at once; a watch goes on, for a day at least. */
inline note_gone(s, x) {
#if DELETIONS > 0
    if
    :: batch[s] == ABSENT && !(gone[s] & BIT(x)) -> gone[s] = gone[s] | BIT(x); watched[s] = 0
    :: else
    fi;
#endif
    vanished = true
}

inline end_watch(s, how) {
    watch[s] = how; watched[s] = 0; suspects[s] = 0; may_read[s] = 0;
#if DELETIONS > 0
    gone[s] = 0
#else
    skip
#endif
}

/* One reading of the list, and a look at every open suspect, for a doubtful or a watched batch. */
inline read(m, s) {
    may_read[s] = 0; found = false; vanished = false;
    if
    :: !IN_PLACE(m, s) ->
        /* Void: the series of clean readings starts again. A watch learns nothing. */
        if
        :: batch[s] == DOUBTFUL -> span[s] = NONE
#ifdef MUTANT_WATCH_ANYWHERE
        :: batch[s] == ABSENT && watch[s] == WATCHED && suspects[s] == 0 && watched[s] >= W ->
            watch[s] = CLEAN; watched[s] = 0; may_read[s] = 0; check_closed(s)
#endif
        :: else
        fi
    :: else ->
        for (i : 0 .. REMOTES - 1) {
            if
            :: LISTED(i) && where[i] == key[m] && !CLAIMED(s, i) && !DISMISSED(s, i) ->
                suspects[s] = suspects[s] | BIT(i);
#ifdef MUTANT_ADOPT_ON_COUNT
                check_adopted(s, i);
#endif
            :: else
            fi;
#ifndef MUTANT_READ_FOR_ONE
            /* What one reading shows, every open doubt and watch of the store in that place has seen. */
            for (j : 0 .. SLOTS - 1) {
                if
                :: SAME(s, j) && (batch[j] == DOUBTFUL || watch[j] == WATCHED) && place[j] == key[m] && CANDIDATE(j, i) ->
                    suspects[j] = suspects[j] | BIT(i)
                :: else
                fi
            }
            j = 0
#endif
        }
        for (i : 0 .. REMOTES - 1) {
            if
            :: !(suspects[s] & BIT(i))
            :: else ->
                if
                :: remote[i] == DELETED ->
#ifdef MUTANT_VANISHED_CLEAN
                    suspects[s] = suspects[s] & ~BIT(i)
#else
                    note_gone(s, i)
#endif
                :: ENDED(i) ->
                    suspects[s] = suspects[s] & ~BIT(i);
                    if
                    :: OURS(s, i) -> check_adopted(s, i); found = true
                    :: else ->
                        if
                        :: OF_THIS_STORE(s, i) ->
                            if
                            :: batch[i] == ABSENT -> book_late(i)
                            :: else
                            fi
                        :: else -> reached(5); strangers[STORE(RUN(s))] = strangers[STORE(RUN(s))] | BIT(i)
                        fi
                    fi
                :: else ->
#if defined(MUTANT_RUNNING_CLEAN)
                    suspects[s] = suspects[s] & ~BIT(i)
#elif defined(MUTANT_CANCEL_ON_COUNT)
                    check_touched(s, i); remote[i] = DELETED; age[i] = 0
#else
                    skip
#endif
                fi
            fi
        }
#ifdef MUTANT_UNREAD_ONLY
        open_for[s] = 0;
#endif
        if
        :: batch[s] == DOUBTFUL -> conclude(s)
        :: batch[s] == ABSENT && watch[s] == WATCHED -> watch_on(s)
        :: else
        fi
    fi
#ifdef LASTING
    ;
#ifndef MUTANT_DOUBT_FOR_EVER
    if
    :: batch[s] == DOUBTFUL && open_for[s] >= LONGEST -> hold(s)
    :: else
    fi;
#endif
    if
    :: batch[s] != DOUBTFUL -> open_for[s] = 0
    :: else
    fi
#endif
}

inline conclude(s) {
    if
    :: found -> reached(1); printf("t=%d  batch %d is proved by its first line and collected\n", t, s); settle(s)
    :: else ->
        if
        :: vanished -> hold(s)
        :: else ->
            if
            :: span[s] == NONE -> span[s] = 0; printf("t=%d  first clean reading for batch %d\n", t, s)
            :: else
            fi;
            if
            :: suspects[s] == 0 && span[s] >= G ->
                if
#ifndef MUTANT_TWIN_IGNORED
                :: late_twin[STORE(RUN(s))] -> hold(s)
#endif
                :: else ->
                    reached(2);
                    printf("t=%d  grace over, nothing seen: batch %d is ABSENT, its row goes back\n", t, s);
                    batch[s] = ABSENT; span[s] = NONE; row[RUN(s)] = PENDING;
#ifdef MUTANT_NO_WATCH
                    watch[s] = CLEAN; check_closed(s)
#else
                    watch[s] = WATCHED; watched[s] = 0
#endif
                fi
            :: else
            fi
        fi
    fi
}

inline watch_on(s) {
    if
    :: found ->
#if DELETIONS > 0
        if :: gone[s] != 0 -> reached(10) :: else fi;
#endif
        book_late(s)
    :: else ->
        if
        :: vanished && UNSETTLED(s) == 0 && watched[s] >= W ->
#ifdef MUTANT_GONE_ENDS_CLEAN
            end_watch(s, CLEAN); check_closed(s)
#else
            reached(9); end_watch(s, INCONCLUSIVE)
#endif
        :: suspects[s] == 0 && watched[s] >= W -> end_watch(s, CLEAN); check_closed(s)
#if defined(LASTING) && !defined(MUTANT_DEFERRED_FOR_EVER)
        /* A suspect that outlasts its expiry must not keep the row waiting for ever. */
        :: UNSETTLED(s) != 0 && watched[s] >= LONGEST -> end_watch(s, INCONCLUSIVE)
#endif
        :: else
        fi
    fi
}

/* Why an intent of run r has to wait, slot s given, in the workspace of mover m's key. */
#ifdef MUTANT_TWO_OPEN
#define OPEN_ALREADY(m, r, s) false
#else
#define OPEN_ALREADY(m, r, s) (SAME(r * K, s) && UNRESOLVED(s) && place[s] == key[m])
#endif
#ifdef MUTANT_UNREAD_TWIN
#define UNREAD(r, s) false
#else
#define UNREAD(r, s) (RUN(s) == r && batch[s] == LATE)
#endif
/* The list read for the intent is a reading for every open watch. */
#if defined(MUTANT_NOT_DEFERRED)
#define SUSPECTED(m, r, s) false
#elif defined(MUTANT_RUNNING_CLEAN)
#define SUSPECTED(m, r, s) (RUN(s) == r && watch[s] == WATCHED && UNSETTLED(s) != 0)
#else
#define SUSPECTED(m, r, s) (RUN(s) == r && watch[s] == WATCHED && \
    (UNSETTLED(s) != 0 || place[s] == key[m] && ANY_REMOTE(CANDIDATE, s)))
#endif
#define DEFERS(m, r, s) (OPEN_ALREADY(m, r, s) || UNREAD(r, s) || SUSPECTED(m, r, s))
#define MAY_SEND(m, r) (row[r] == PENDING && attempts[r] < K && !ANY_SLOT(DEFERS, m, r))

/* A reading of a watch is left out where it could change nothing. */
#ifdef MUTANT_WATCH_ANYWHERE
#define TELLS(m, s) true
#else
#define TELLS(m, s) (key[m] == place[s] && (suspects[s] != 0 || watched[s] >= W || ANY_REMOTE(CANDIDATE, s)))
#endif
#define WORTH_READING(m, s) (may_read[s] && (batch[s] == DOUBTFUL || batch[s] == ABSENT && watch[s] == WATCHED && TELLS(m, s)))

#define READ_SLOT(n) \
    :: atomic { FREE(r) && WORTH_READING(m, r * K + n) -> holder[r] = NOBODY; \
         d_step { read(m, r * K + n); i = 0 } }

#define COLLECT_SLOT(n) \
    :: atomic { FREE(r) && batch[r * K + n] == LIVE && ENDED(r * K + n) -> holder[r] = NOBODY; settle(r * K + n) }

#ifdef MUTANT_TWIN_READ_EARLY
#define MAY_READ_TWIN true
#else
#define MAY_READ_TWIN (row[r] != SUBMITTED)
#endif

#define TWIN_SLOT(n) \
    :: atomic { FREE(r) && batch[r * K + n] == LATE && MAY_READ_TWIN -> holder[r] = NOBODY; batch[r * K + n] = COLLECTED; \
         if :: row[r] == PENDING && remote[r * K + n] == PAID -> reached(7); row[r] = DONE :: else fi }

/* What an earlier mover left behind. */
#ifdef MUTANT_LEASE_IGNORED
#define MAY_RECOVER true
#else
#define MAY_RECOVER FREE(r)
#endif
#define RECOVER_SLOT(n) \
    :: atomic { MAY_RECOVER && batch[r * K + n] == INTENT -> holder[r] = NOBODY; \
         printf("t=%d  mover %d withdraws batch %d, unclaimed\n", t, m, r * K + n); \
         batch[r * K + n] = REJECTED; row[r] = PENDING } \
    :: atomic { MAY_RECOVER && batch[r * K + n] == SENDING -> holder[r] = NOBODY; \
         printf("t=%d  mover %d finds batch %d in SENDING: DOUBTFUL\n", t, m, r * K + n); \
         open_doubt(r * K + n) }

inline open_doubt(s) {
    d_step {
        batch[s] = DOUBTFUL; may_read[s] = 1;
#ifndef MUTANT_READ_FOR_ONE
        /* A suspect that other trails still have open may be this batch, too. */
        for (i : 0 .. SLOTS - 1) {
            if
            :: SAME(s, i) && place[i] == place[s] -> suspects[s] = suspects[s] | suspects[i]
            :: else
            fi
        }
#endif
        i = 0
    }
}

#define DIE \
    :: atomic { MAY_FAIL(s) && !faulty[m] -> faulty[m] = 1; step[m] = IDLE; s = 0; k = 0; \
         printf("t=%d  mover %d dies\n", t, m); goto idle }

proctype Mover(byte m; byte r) {
    byte s;
    bit k;      /* the snapshot of the credential */
idle:
end:
    do
    RECOVER_SLOT(0) READ_SLOT(0) COLLECT_SLOT(0) TWIN_SLOT(0)
    RECOVER_SLOT(1) READ_SLOT(1) COLLECT_SLOT(1) TWIN_SLOT(1)
#if K > 2
    RECOVER_SLOT(2) READ_SLOT(2) COLLECT_SLOT(2) TWIN_SLOT(2)
#endif
    :: atomic {
        FREE(r) && MAY_SEND(m, r) ->
        s = r * K + attempts[r]; attempts[r]++;
        k = key[m]; place[s] = k; batch[s] = INTENT; row[r] = SUBMITTED;
        holder[r] = m; left[r] = LEASE; step[m] = BODY;
#ifdef MUTANT_INTENT_LIST
        span[s] = 0;
#endif
        d_step { check_intent(s); i = 0 };
        printf("t=%d  mover %d writes the intent of batch %d\n", t, m, s)
       };
       goto claim
    od;
claim:
    if
#ifndef MUTANT_NO_CLAIM
    :: atomic { holder[r] == m && batch[s] == INTENT -> batch[s] = SENDING; left[r] = LEASE;
#ifdef MUTANT_GRACE_FROM_CLAIM
         span[s] = 0
#endif
       }
    :: atomic { !(holder[r] == m && batch[s] == INTENT) -> step[m] = IDLE; s = 0; k = 0; goto idle }
#else
    :: true
#endif
    DIE
    fi;
    if
#if defined(MUTANT_LOCAL_CHECK)
    /* The lease is looked at, but nothing is committed: a freeze after this is not noticed. */
    :: atomic { holder[r] == m && left[r] > 0 -> skip }
    :: atomic { !(holder[r] == m && left[r] > 0) -> step[m] = IDLE; s = 0; k = 0; goto idle }
#elif defined(MUTANT_NO_EPOCH)
    :: atomic { true -> step[m] = LAST_CHUNK }
#else
    :: atomic { holder[r] == m -> left[r] = LEASE; step[m] = LAST_CHUNK }
    :: atomic { holder[r] != m -> step[m] = IDLE; s = 0; k = 0; goto idle }
#endif
    DIE
    fi;
    if
    :: atomic {
        remote[s] = IN_FLIGHT; age[s] = 0; step[m] = WAITING;
#ifdef MUTANT_NO_SNAPSHOT
        where[s] = key[m];
#else
        where[s] = k;
#endif
        printf("t=%d  mover %d hands the last chunk of batch %d over\n", t, m, s)
       }
    DIE
    fi;
    if
    :: atomic {
        answered[s] ->
        printf("t=%d  mover %d reads the answer for batch %d\n", t, m, s);
        if
        :: holder[r] == m && (batch[s] == SENDING || batch[s] == INTENT) -> batch[s] = LIVE; release(r)
        :: else ->
            /* Fenced off with a paid batch in hand: the id is left as the first suspect. */
            if
            :: batch[s] == DOUBTFUL || batch[s] == ABSENT && watch[s] == WATCHED -> reached(6); suspects[s] = suspects[s] | BIT(s)
            :: else
            fi
        fi
       }
    :: atomic {
        failed[s] || MAY_FAIL(s) ->
        printf("t=%d  mover %d gets no answer for batch %d\n", t, m, s);
        if
        :: holder[r] == m && (batch[s] == SENDING || batch[s] == INTENT) -> open_doubt(s); release(r)
        :: else
        fi
       }
    DIE
    fi;
    atomic { step[m] = IDLE; s = 0; k = 0; goto idle }
}

/* ---------------------------------------------------------------- network and provider */

#define NET_SLOT(x) \
    :: atomic { remote[x] == IN_FLIGHT -> remote[x] = UNLISTED; age[x] = 0; \
         if :: answered[x] = 1 :: MAY_FAIL(x) -> failed[x] = 1 fi; \
         printf("t=%d  the provider creates batch %d\n", t, x); \
         d_step { check_created(x); check_paid(RUN(x)); i = 0 } } \
    :: atomic { remote[x] == IN_FLIGHT && MAY_FAIL(x) -> remote[x] = LOST; age[x] = 0; failed[x] = 1; \
         printf("t=%d  the create of batch %d is lost\n", t, x) }

#define NET_REMOTE(x) \
    :: atomic { remote[x] == UNLISTED -> remote[x] = RUNNING; age[x] = 0; printf("t=%d  remote batch %d is listed\n", t, x) } \
    :: atomic { remote[x] == RUNNING -> remote[x] = PAID; age[x] = 0; printf("t=%d  remote batch %d has ended\n", t, x) }

#define NET_EXPIRY(x) \
    :: atomic { expiries > 0 && remote[x] == RUNNING && MAY_FAIL(x) -> remote[x] = EXPIRED; age[x] = 0; expiries--; \
         printf("t=%d  remote batch %d expires unpaid\n", t, x) }

/* A batch deleted before anybody saw it, or while its sender still has it, is a residual risk: not here. */
#define SUSPECT_IN(x, none, s) ((suspects[s] & BIT(x)) != 0)
#define IN_DOUBT(x) (batch[x] == DOUBTFUL || batch[x] == ABSENT && watch[x] == WATCHED)
#define NET_DELETION(x) \
    :: atomic { OPTIONAL && deletions > 0 && (remote[x] == RUNNING || remote[x] == PAID) && IN_DOUBT(x) && ANY_SLOT(SUSPECT_IN, x, 0) -> \
         remote[x] = DELETED; age[x] = 0; deletions--; printf("t=%d  somebody deletes remote batch %d\n", t, x) }

#define ROTATE(m) :: atomic { OPTIONAL && key[m] == 0 -> key[m] = 1; printf("t=%d  mover %d has the other key now\n", t, m) }

active proctype Network() {
end:
    do
    NET_SLOT(0) NET_REMOTE(0)
    NET_SLOT(1) NET_REMOTE(1)
#if SLOTS > 2
    NET_SLOT(2) NET_REMOTE(2)
#endif
#if SLOTS > 3
    NET_SLOT(3) NET_REMOTE(3)
#endif
#if EXPIRIES > 0
    NET_EXPIRY(0) NET_EXPIRY(1)
#if SLOTS > 2
    NET_EXPIRY(2)
#endif
#endif
#if DELETIONS > 0
    NET_DELETION(0) NET_DELETION(1)
#endif
#if STRANGERS > 0
    :: atomic { OPTIONAL && remote[STRANGER] == NOTHING -> remote[STRANGER] = UNLISTED }
    NET_REMOTE(STRANGER)
#ifdef STUCK
    :: atomic { remote[STRANGER] == RUNNING -> remote[STRANGER] = STUCK_RUNNING; age[STRANGER] = 0 }
#endif
#endif
#ifdef ROTATION
    ROTATE(0) ROTATE(1)
#endif
#ifdef QUIET_DOWN
    :: quiet == 0 -> quiet = 1
#endif
    od
}

/* ---------------------------------------------------------------- time */

#define DUE(a, x) (remote[x] == IN_FLIGHT && age[x] >= L || remote[x] == UNLISTED && age[x] >= V || remote[x] == RUNNING && age[x] >= E)
#define EXPIRING(m) (left[RUN_OF(m)] == 1 && holder[RUN_OF(m)] == m)
/* Nobody outlives its lease in the last write; in the body it can be frozen, once. */
#define HURRIED(m) (EXPIRING(m) && (step[m] == LAST_CHUNK || step[m] == BODY && (faulty[m] || attempts[RUN_OF(m)] == K)))
#define MAY_TICK (!ANY_REMOTE(DUE, 0) && !HURRIED(0) && !HURRIED(1) && !HURRIED(2))

inline pass_time() {
    t++;
    for (i : 0 .. REMOTES - 1) {
        if
        :: remote[i] == IN_FLIGHT || remote[i] == UNLISTED || remote[i] == RUNNING -> age[i]++
        :: else
        fi
    }
    for (i : 0 .. 2) {
        if
        :: step[i] == BODY && EXPIRING(i) -> faulty[i] = 1; reached(8); printf("t=%d  mover %d is frozen\n", t, i)
        :: else
        fi
    }
    for (i : 0 .. RUNS - 1) {
        if
        :: left[i] > 0 -> left[i]--
        :: else
        fi
    }
    for (i : 0 .. SLOTS - 1) {
        if
        :: span[i] < G -> span[i]++
        :: else
        fi;
        if
        :: watch[i] == WATCHED && watched[i] < WATCH_CAP -> watched[i]++
        :: else
        fi;
        if
        :: batch[i] == DOUBTFUL || watch[i] == WATCHED -> may_read[i] = 1
        :: else
        fi
#ifdef LASTING
        ;
        if
        :: batch[i] == DOUBTFUL && open_for[i] < LONGEST -> open_for[i]++
        :: else
        fi
#endif
    }
    i = 0
}

active proctype Clock() {
end:
    do
    :: d_step { MAY_TICK -> pass_time() }
    od
}

init {
    atomic {
        for (i : 0 .. RUNS - 1) { row[i] = PENDING; holder[i] = NOBODY }
        for (i : 0 .. SLOTS - 1) { batch[i] = UNUSED; span[i] = NONE; watch[i] = UNWATCHED }
        for (i : 0 .. REMOTES - 1) { remote[i] = NOTHING }
        for (i : 0 .. 2) { step[i] = IDLE }
        i = 0;
        run Mover(0, 0);
#if RUNS > 1 && defined(TWO_MOVERS)
        run Mover(1, 0); run Mover(2, 1)
#elif RUNS > 1
        run Mover(1, 1)
#else
        run Mover(1, 0)
#endif
    }
}

/* ---------------------------------------------------------------- progress, under weak fairness */

#define SETTLED(r) (row[r] == DONE || ANY_SLOT(HELD_FOR, r, 0))
#define HELD_FOR(r, none, s) (STORE(RUN(s)) == STORE(r) && batch[s] == HELD)
#if RUNS > 1
#define ALL_SETTLED (SETTLED(0) && SETTLED(1))
#else
#define ALL_SETTLED SETTLED(0)
#endif

#ifdef CLAIM_ENDS       /* every run ends or is held */
ltl ends { <> ALL_SETTLED }
#endif
#ifdef CLAIM_FOUND      /* every twin is found, or the watch says that it cannot tell */
ltl found_late { [] ((batch[0] == ABSENT && CREATED(0)) -> <> (batch[0] != ABSENT || watch[0] == INCONCLUSIVE)) }
#endif
