-- Times are kept to the millisecond. Columns named sealed_* hold ciphertext only.
--
-- Tables that grow with every message are partitioned by month. Ids of messages are UUIDv7, so their order is that of
-- time and the month stands in the id: a look-up by message needs no other column to find its one partition. Tables
-- that hold what must be unique for ever (references, blobs, keys) are not partitioned.

CREATE TABLE schema_migration (
  version integer PRIMARY KEY,
  name text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- ── Order of commit ──

-- A position is the number of the transaction that wrote the row, and the row's place inside it. Transactions commit in
-- another order than they began, so a reader goes no further than `visible_below`: what is below is committed or never
-- will be. `base` is added to the number of a transaction, so that positions go on where they were when the rows were
-- moved to another cluster, which counts anew.
CREATE TABLE position_base (
  id integer PRIMARY KEY CHECK (id = 1),
  base bigint NOT NULL
);
INSERT INTO position_base VALUES (1, 0);

CREATE FUNCTION position_of(place integer) RETURNS bigint LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
  SELECT ((pg_current_xact_id()::text::bigint + base) << 16) | place FROM position_base WHERE id = 1
$$;
CREATE FUNCTION visible_below() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + base) << 16 FROM position_base WHERE id = 1
$$;

-- ── Keys ──

CREATE TABLE kek (
  kek_id uuid PRIMARY KEY,
  sender_id uuid NOT NULL,
  year integer NOT NULL,
  master_id text NOT NULL,
  wrapped bytea NOT NULL,
  UNIQUE (sender_id, year)
);

-- A key is destroyed by writing zeros over `wrapped`; its row stays. The old version of the row leaves with VACUUM.
CREATE TABLE dek (
  dek_id uuid PRIMARY KEY,
  kek_id uuid NOT NULL REFERENCES kek (kek_id),
  purpose text NOT NULL CHECK (purpose IN ('document', 'meta', 'log')),
  destroyed boolean NOT NULL DEFAULT false,
  wrapped bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.001);

CREATE TABLE index_key (
  purpose text NOT NULL,
  version integer NOT NULL,
  master_id text NOT NULL,
  wrapped bytea NOT NULL,
  PRIMARY KEY (purpose, version)
);

CREATE TABLE log_key (
  sender_id uuid NOT NULL,
  year integer NOT NULL,
  dek_id uuid NOT NULL REFERENCES dek (dek_id) DEFERRABLE INITIALLY DEFERRED, -- the key is added when its place is
  PRIMARY KEY (sender_id, year)
);

-- ── What must be unique for ever ──

-- Outlives the message: a reference is burnt for as long as metadata is kept.
CREATE TABLE reference (
  sender text NOT NULL,
  profile text NOT NULL,
  reference text NOT NULL,
  message_id uuid NOT NULL,
  content_sha256 bytea NOT NULL,
  PRIMARY KEY (sender, profile, reference)
);

-- Who was first: the document that needs a blob (its id is the document's), or the tombstone that forbids it. One row
-- decides, whatever transactions run at once.
CREATE TABLE blob (
  blob_id uuid PRIMARY KEY,
  message_id uuid, -- NULL: a tombstone
  at timestamptz NOT NULL
);

CREATE TABLE quota (
  sender text NOT NULL,
  profile text NOT NULL,
  day date NOT NULL, -- in Europe/Brussels
  messages integer NOT NULL,
  paper integer NOT NULL,
  PRIMARY KEY (sender, profile, day)
) WITH (fillfactor = 50);

-- ── Messages, by month ──

CREATE TABLE message (
  message_id uuid PRIMARY KEY,
  position bigint NOT NULL, -- order of commit; the cursor of lists
  revision integer NOT NULL, -- counts changes; a change names the revision it saw
  entries integer NOT NULL DEFAULT 0, -- how many log entries there are about it; the next one's number less one
  sender text NOT NULL,
  profile text NOT NULL,
  party text NOT NULL, -- who handed it over
  registration_version integer NOT NULL,
  reference text NOT NULL,
  category text NOT NULL,
  legal_basis text NOT NULL,
  language text NOT NULL,
  lane text NOT NULL,
  status text NOT NULL,
  accepted_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  deliver_not_before timestamptz,
  deliver_before timestamptz,
  retention_s bigint NOT NULL,
  billing_reference text,
  route text NOT NULL, -- JSON, see stores/encoding.py
  letterhead text NOT NULL, -- JSON
  print_options text NOT NULL, -- JSON
  dossier_rule boolean NOT NULL, -- true: a dossier must still be in force at a deferred dispatch
  content_sha256 bytea NOT NULL,
  message_sha256 bytea NOT NULL,
  recipient_index bytea,
  recipient_index_version integer,
  meta_dek_id uuid NOT NULL,
  sealed_recipient bytea NOT NULL,
  sealed_subject bytea NOT NULL,
  sealed_purpose bytea NOT NULL,
  sealed_signed_message bytea NOT NULL,
  receipt_jws text NOT NULL,
  receipt_xml bytea NOT NULL,
  copy_state text NOT NULL,
  copy_until timestamptz,
  retrievals integer NOT NULL
) PARTITION BY RANGE (message_id);
CREATE INDEX message_by_sender ON message (sender, profile, position);
CREATE INDEX message_by_status ON message (sender, profile, status, position) WHERE status <> 'delivered';
CREATE INDEX message_by_recipient ON message (recipient_index) WHERE recipient_index IS NOT NULL;
CREATE INDEX message_to_erase ON message (copy_until) WHERE copy_state IN ('kept', 'awaiting-erasure');

-- A document's id is also the id of its blob. Cover pages are documents that we made, for one delivery.
CREATE TABLE document (
  message_id uuid NOT NULL,
  document_id uuid NOT NULL,
  delivery_id uuid, -- of a cover page
  number integer NOT NULL,
  part text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('document', 'cover')),
  media_type text NOT NULL,
  size_bytes bigint NOT NULL,
  sha256 bytea NOT NULL,
  main boolean NOT NULL,
  signed boolean NOT NULL,
  pages integer,
  sealed_filename bytea NOT NULL,
  dek_id uuid NOT NULL,
  key_destroyed_at timestamptz,
  blob_erased_at timestamptz,
  PRIMARY KEY (message_id, document_id)
) PARTITION BY RANGE (message_id);
CREATE INDEX document_blob_to_erase ON document (key_destroyed_at)
  WHERE key_destroyed_at IS NOT NULL AND blob_erased_at IS NULL;

CREATE TABLE delivery (
  message_id uuid NOT NULL,
  delivery_id uuid NOT NULL,
  number integer NOT NULL,
  channel text NOT NULL,
  provider text NOT NULL,
  lane text NOT NULL,
  status text NOT NULL,
  status_at timestamptz NOT NULL,
  reason text,
  code text, -- the provider's word for the reason
  provider_reference text,
  barcode text,
  handed_over_at timestamptz,
  posted_at timestamptz,
  read_seen_at timestamptz,
  attempts integer NOT NULL,
  first_attempt_at timestamptz,
  next_action text NOT NULL,
  due_at timestamptz,
  deadline_at timestamptz, -- late after this
  PRIMARY KEY (message_id, delivery_id),
  UNIQUE (message_id, number)
) PARTITION BY RANGE (message_id);
CREATE INDEX delivery_by_id ON delivery (delivery_id);

CREATE TABLE attempt (
  message_id uuid NOT NULL,
  delivery_id uuid NOT NULL,
  number integer NOT NULL,
  action text NOT NULL,
  worker text NOT NULL,
  started_at timestamptz NOT NULL,
  deadline_at timestamptz NOT NULL,
  ended_at timestamptz,
  outcome text,
  code text,
  PRIMARY KEY (message_id, delivery_id, number)
) PARTITION BY RANGE (message_id);

-- What was once stated about the n-th traffic-log entry of a message is what will always be stated.
CREATE TABLE evidence (
  message_id uuid NOT NULL,
  number integer NOT NULL,
  jws text NOT NULL,
  signed_at timestamptz NOT NULL,
  PRIMARY KEY (message_id, number)
) PARTITION BY RANGE (message_id);

-- Traffic, privacy and admin log. `entry` is the canonical JSON that the leaf commits to; it holds no personal value.
-- Filed under its message, or under its own id (a UUIDv7 too) when it is about none.
CREATE TABLE log_entry (
  filed_under uuid NOT NULL,
  position bigint NOT NULL,
  number integer, -- among the entries about its message, in order; NULL: about none that is recorded
  entry_id uuid NOT NULL,
  log text NOT NULL CHECK (log IN ('traffic', 'privacy', 'admin')),
  at timestamptz NOT NULL,
  event text NOT NULL,
  sender text,
  profile text,
  message_id uuid,
  delivery_id uuid,
  about_index bytea,
  about_index_version integer,
  entry bytea NOT NULL,
  leaf_sha256 bytea NOT NULL,
  dek_id uuid,
  sealed_clear bytea,
  PRIMARY KEY (filed_under, position),
  UNIQUE (filed_under, entry_id)
) PARTITION BY RANGE (filed_under);
CREATE INDEX log_entry_in_order ON log_entry (position);
CREATE INDEX log_entry_about ON log_entry (about_index, position) WHERE about_index IS NOT NULL;

-- ── The queue ──

-- One row for each delivery that has not ended, beside the delivery itself, so that the table workers look at stays as
-- small as what is left to do. `delivery` has the same next_action, due_at and deadline_at; one transaction writes both.
CREATE TABLE queue (
  delivery_id uuid PRIMARY KEY,
  message_id uuid NOT NULL,
  sender text NOT NULL,
  channel text NOT NULL,
  provider text NOT NULL,
  lane text NOT NULL,
  status text NOT NULL,
  next_action text NOT NULL CHECK (next_action <> 'none'),
  due_at timestamptz,
  deadline_at timestamptz,
  lease_token bigint NOT NULL DEFAULT 0, -- grows with each claim; the fence
  lease_until timestamptz,
  worker text
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE SEQUENCE lease_token; -- one for all deliveries: a token is never used twice, also when a delivery is queued again
-- Provider first: what waits for a provider that is down costs the others nothing. Then sender: they take turns.
CREATE INDEX queue_due ON queue (provider, lane, sender, due_at) WHERE next_action IN ('send', 'reconcile', 'poll');
CREATE INDEX queue_deadline ON queue (deadline_at);
CREATE INDEX queue_to_decide ON queue (deadline_at) WHERE next_action = 'decide';

-- Where the turns of a provider stand; its lock is the right to claim for it.
CREATE TABLE turn (
  provider text PRIMARY KEY,
  last_single text NOT NULL DEFAULT '', -- the sender that came last in the lane; '': none yet
  last_bulk text NOT NULL DEFAULT '',
  singles integer NOT NULL DEFAULT 0 -- single letters since the last of bulk
) WITH (fillfactor = 10);

-- ── Recipients and dossiers ──

-- What the recipient of a paper letter can open with the code on its cover page. Keyed hashes only.
CREATE TABLE retrieval (
  delivery_id uuid PRIMARY KEY,
  message_id uuid NOT NULL,
  token_hash bytea NOT NULL UNIQUE,
  number_hash bytea NOT NULL UNIQUE,
  code_hash bytea NOT NULL,
  index_version integer NOT NULL,
  created_at timestamptz NOT NULL,
  failures integer NOT NULL,
  locked_until timestamptz
);
CREATE INDEX retrieval_by_message ON retrieval (message_id);

CREATE TABLE dossier (
  dossier_id uuid PRIMARY KEY,
  sender text NOT NULL,
  category text NOT NULL,
  recipient_index bytea NOT NULL,
  recipient_index_version integer NOT NULL,
  from_on date NOT NULL,
  until_on date, -- last day in force; NULL: until ended
  registered_at timestamptz NOT NULL,
  ended_at timestamptz,
  dek_id uuid NOT NULL,
  sealed_recipient bytea NOT NULL
);
CREATE INDEX dossier_by_recipient ON dossier (sender, recipient_index, category);

-- ── Registration ──

-- The highest version is in force.
CREATE TABLE registration_version (
  version integer PRIMARY KEY,
  digest bytea NOT NULL, -- SHA-256 of files
  at timestamptz NOT NULL,
  author text NOT NULL,
  files text -- canonical JSON of {file name: text}, see config/registration_files.py
);
CREATE TABLE suspension (
  sender text PRIMARY KEY,
  at timestamptz NOT NULL,
  reason text NOT NULL
);
CREATE TABLE configured_provider (
  name text PRIMARY KEY
);

-- ── Care ──

CREATE TABLE heartbeat (
  id integer PRIMARY KEY CHECK (id = 1),
  at timestamptz NOT NULL
) WITH (fillfactor = 10);

-- An epoch lasts until a backup is restored; cursors into feeds name theirs.
CREATE TABLE epoch (
  number integer PRIMARY KEY,
  epoch_id uuid NOT NULL,
  begun_at timestamptz NOT NULL
);
INSERT INTO epoch VALUES (1, gen_random_uuid(), clock_timestamp());

-- ── Feeds ──

-- How far the log has been numbered; one row, whose lock is the right to number.
CREATE TABLE feed_progress (
  id integer PRIMARY KEY CHECK (id = 1),
  position bigint NOT NULL -- of the last log entry that was looked at
);
INSERT INTO feed_progress VALUES (1, 0);
CREATE TABLE feed (
  sender text PRIMARY KEY,
  last_number bigint NOT NULL,
  removed_through bigint NOT NULL DEFAULT 0
);
CREATE TABLE feed_event (
  sender text NOT NULL,
  number bigint NOT NULL, -- from 1, without gap
  profile text,
  filed_under uuid NOT NULL, -- of the log entry
  position bigint NOT NULL,
  numbered_at timestamptz NOT NULL,
  PRIMARY KEY (sender, number)
);

-- ── Months ──

CREATE FUNCTION first_id_of(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  -- RFC 9562, 5.7: the first 48 bits of a UUIDv7 are Unix milliseconds
  SELECT (lpad(to_hex((extract(epoch FROM day::timestamp AT TIME ZONE 'UTC') * 1000)::bigint), 12, '0')
    || repeat('0', 20))::uuid
$$;

-- Makes the partitions of a month, when they are missing. Runs with the owner's rights, so that a gateway, which may not
-- make tables, opens the coming months by itself.
CREATE FUNCTION open_month(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  first date := date_trunc('month', day)::date;
  parent text;
  name text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('open_month'));
  FOREACH parent IN ARRAY ARRAY['message', 'document', 'delivery', 'attempt', 'evidence', 'log_entry'] LOOP
    name := parent || '_' || to_char(first, 'YYYYMM');
    IF to_regclass(name) IS NULL THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
        name, parent, first_id_of(first), first_id_of((first + interval '1 month')::date));
    END IF;
  END LOOP;
END
$$;

-- What fits no month (an id from another clock) is kept all the same.
CREATE TABLE message_other PARTITION OF message DEFAULT;
CREATE TABLE document_other PARTITION OF document DEFAULT;
CREATE TABLE delivery_other PARTITION OF delivery DEFAULT;
CREATE TABLE attempt_other PARTITION OF attempt DEFAULT;
CREATE TABLE evidence_other PARTITION OF evidence DEFAULT;
CREATE TABLE log_entry_other PARTITION OF log_entry DEFAULT;

-- ── Rights ──

-- Least rights: gateways are members of gateway_app, which may add but neither change nor remove what is kept for ever.
DO $$
BEGIN
  -- Roles belong to the cluster, not to the database; an owner who may not make roles finds it made by the DBA.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gateway_app') THEN
    CREATE ROLE gateway_app NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- made for another database at the same time
END
$$;
REVOKE ALL ON FUNCTION open_month(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_month(date) TO gateway_app;
GRANT USAGE ON SEQUENCE lease_token TO gateway_app;
GRANT SELECT ON
  schema_migration, position_base, kek, dek, index_key, log_key, reference, blob, quota, message, document, delivery,
  attempt, evidence, log_entry, queue, turn, retrieval, dossier, registration_version, suspension,
  configured_provider, heartbeat, epoch, feed_progress, feed, feed_event
  TO gateway_app;
GRANT INSERT ON
  kek, dek, index_key, log_key, reference, blob, quota, message, document, delivery, attempt, evidence, log_entry, queue,
  turn, retrieval, dossier, registration_version, suspension, configured_provider, heartbeat, epoch, feed, feed_event
  TO gateway_app;
GRANT UPDATE (destroyed, wrapped) ON dek TO gateway_app;
GRANT UPDATE (messages, paper) ON quota TO gateway_app;
GRANT UPDATE (revision, entries, status, copy_state, copy_until, retrievals) ON message TO gateway_app;
GRANT UPDATE (key_destroyed_at, blob_erased_at) ON document TO gateway_app;
GRANT UPDATE ON delivery, queue, turn TO gateway_app;
GRANT UPDATE (ended_at, outcome, code) ON attempt TO gateway_app;
GRANT UPDATE (failures, locked_until) ON retrieval TO gateway_app;
GRANT UPDATE (ended_at) ON dossier TO gateway_app;
GRANT UPDATE ON heartbeat, feed_progress, feed TO gateway_app;
GRANT DELETE ON queue, retrieval, suspension, configured_provider, feed_event TO gateway_app;
GRANT MAINTAIN ON dek TO gateway_app; -- VACUUM, hourly
