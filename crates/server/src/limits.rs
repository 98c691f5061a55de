//! Bounds of the network side, each with its reason. Those of the protocol are in
//! `quorate_types::limits`.

use std::time::Duration;

/// Open connections, handshakes left out. Each costs up to some 100 KB with HTTP/2 buffers. Where all are taken, the
/// client that has the most gives one up for whoever has fewer.
pub const MAX_CONNECTIONS: usize = 1024;

/// Of those, what a principal may count on: a quarter. A gateway with hundreds of processes has more while there is
/// room, and keeps what it is using of a quarter when there is none.
pub const MAX_CONNECTIONS_PER_CALLER: usize = MAX_CONNECTIONS / 4;

/// Of those, what all together have whose clients are no principals: a quarter. Anybody can open one, and honest ones
/// ask one thing and leave.
pub const MAX_CONNECTIONS_OF_STRANGERS: usize = MAX_CONNECTIONS / 4;

/// Of those, what one address has of strangers, or one network of 64 bits of IPv6: half, so that one leaves as much to
/// all others. Clients behind one gateway that are principals are not counted.
pub const MAX_STRANGERS_PER_ADDRESS: usize = MAX_CONNECTIONS_OF_STRANGERS / 2;

/// Connections in their TLS handshake, which costs some 20 KB: as many as come at once when a node is back and all of
/// its clients are waiting. One more, and the one that has taken longest goes, of those from the address that has
/// the most: honest ones take a few round trips.
pub const MAX_HANDSHAKES: usize = 1024;

/// Files that a node needs besides connections, generously.
pub(crate) const OTHER_FILES: usize = 256;

/// How often the operator is told that connections are lacking.
pub(crate) const FULL_LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Requests of one connection at once. Clients batch; one that needs more opens another connection.
pub const MAX_STREAMS: u32 = 128;

/// Requests at once, of all connections. Later ones wait for [`ADMISSION_TIMEOUT`].
pub const MAX_REQUESTS: usize = 1024;

/// Request bodies in memory at once: 64 of the largest.
pub const MAX_BODY_MEMORY: usize = 128 * 1024 * 1024;

/// The unit in which body memory is counted.
pub(crate) const BODY_UNIT: usize = 1024;

/// Requests of one principal at once, and of all strangers together: a quarter of all. A client that
/// has more to ask batches.
pub const MAX_REQUESTS_PER_CALLER: usize = 256;

/// Bytes of bodies of one principal at once, and of all strangers together: a quarter of all.
pub const MAX_BODY_MEMORY_PER_CALLER: usize = 32 * 1024 * 1024;

/// Requests at once on a connection whose client is no principal. Anybody can open one, and may bring
/// documents, whose signatures cost time.
pub const MAX_STREAMS_OF_STRANGERS: u64 = 8;

/// HTTP/2 streams of such a connection: some past what it may ask at once, so that it is told so.
pub(crate) const HTTP2_STREAMS_OF_STRANGERS: u32 = 16;

/// Replies in memory at once, built or not yet gone: 16 of the largest.
pub const MAX_REPLY_MEMORY: usize = 128 * 1024 * 1024;

/// Bytes of replies of one principal at once, and of all strangers together: a quarter of all. Who does not read
/// what it is answered gets no more.
pub const MAX_REPLY_MEMORY_PER_CALLER: usize = 32 * 1024 * 1024;

/// Header bytes of one request; honest ones have a few hundred.
pub const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How long a client may take for the TLS handshake. Slow mobile links need under 2 s.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's header.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's body: 2 MiB over 2 Mbit/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without requests stays open.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// And one whose client is no principal, from the handshake on. Honest ones ask at once.
pub const IDLE_TIMEOUT_OF_STRANGERS: Duration = Duration::from_secs(10);

/// How long a connection that was idle may take to say goodbye.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take no part of a reply that waits for it. The SDK gives a request up after as long.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a request waits for memory for its reply, before it is decided on.
pub const REPLY_TIMEOUT: Duration = CORE_TIMEOUT;

/// How long a request waits for its turn before it is refused as overload.
pub const ADMISSION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a request waits for a core before it is refused as overload. One batch of 4096 labels
/// takes a slow core seconds, and a client that needs every node has nobody else to ask meanwhile.
pub const CORE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for the disk, to read or to make its decision durable, before it is
/// refused. A healthy disk needs milliseconds; a hanging one must not hold clients up.
pub const STORAGE_TIMEOUT: Duration = Duration::from_millis(900);

/// How often a decision is made again because a row changed under it.
pub const MAX_ATTEMPTS: usize = 16;

/// How long requests may go on after the node was told to stop.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node whose disk failed goes on refusing before it ends, so that those who wait are told.
pub const FAILED_TIMEOUT: Duration = Duration::from_secs(1);

/// Monitoring connections at once: a scraper, two probes, and people who look.
pub const MAX_HEALTH_CONNECTIONS: usize = 16;

/// How long a monitoring connection lives, its one request and its answer included.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a monitoring request's head may take.
pub const HEALTH_HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often `/ready` looks at most; between, it says again what it saw. Looking writes to the disk.
pub const READY_INTERVAL: Duration = Duration::from_secs(1);

/// How often expired sessions are erased.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Labels that are evaluated on the thread that read the request; more go to a thread of their own,
/// so that they do not hold up other requests of the same thread.
pub const MAX_INLINE_LABELS: usize = 2;

/// Refusals of principals in the log in one second. The audit log has all of them.
pub const REFUSALS_LOGGED_A_SECOND: u32 = 10;

/// Requests of one caller that are decided on in one second, while the answer is that it is revoked or
/// expired. Each leaves an audit record of some 200 bytes: at most 170 MB a day and credential.
pub const TURNED_AWAY_A_SECOND: u32 = 10;

/// Callers that are held to that rate at once; past it, the one that was quiet longest is let go.
pub const MAX_TURNED_AWAY: usize = 1024;

/// Audit records that stay in the database where there is an archive: some 300 MB of single requests, or a
/// month of ten requests in a minute.
pub const AUDIT_RECORDS_KEPT: u64 = 1_000_000;

/// Records of one archived segment. A power of two, so that segments begin and end with complete subtrees.
pub const SEGMENT_RECORDS: u64 = 4096;

/// Parts of the disk, or of the database's bound, in per cent, from which on the operator is warned: time
/// to archive or to make room.
pub const DISK_WARNING: u64 = 80;

/// And from which on it is an alarm: soon the node will refuse everything.
pub const DISK_ALARM: u64 = 95;
