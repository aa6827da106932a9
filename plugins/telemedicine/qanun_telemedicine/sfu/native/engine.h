/* What the C engine offers to Python. Plain declarations only: cffi reads this file as well as the compiler.
 *
 * Addresses are 24 bytes, the beginning of a sockaddr_in6, and IPv4 is written as IPv6 writes it (see addresses.py), whatever
 * the socket is. Times are CLOCK_MONOTONIC in nanoseconds. Handles stay valid until their *_remove; the caller keeps the
 * libsrtp sessions alive until then. Every function may be called from any thread. */

typedef struct qe_engine qe_engine;
typedef struct qe_transport qe_transport;
typedef struct qe_track qe_track;
typedef struct qe_sender qe_sender;

/* Header extensions that travel with a packet, by their place in engine_c.CARRIED. */
typedef struct {
    uint8_t which;
    uint8_t id;
} qe_extension;

typedef struct {
    uint32_t serial;
    uint8_t video;
    uint8_t payload_type;
    int16_t rtx_payload_type; /* -1 for none */
    int16_t red_payload_type; /* the same */
    uint8_t codec;            /* its place in payloads.CODECS */
    uint8_t descriptor_id;    /* of dependency descriptors; 0 for none */
    uint32_t clock_rate;
    uint8_t level_id;
    const char *mid;
    const char *const *rids;
    uint32_t rid_count;
    const uint32_t *ssrcs; /* known beforehand, */
    const int32_t *ssrc_rids; /* and the layer of each: an index of rids or -1 */
    uint32_t ssrc_count;
    const qe_extension *carried;
    uint32_t carried_count;
} qe_track_spec;

typedef struct {
    uint32_t serial;
    uint8_t video;
    int16_t payload_types[6]; /* by the codec's place in payloads.CODECS; -1 for what cannot be sent here */
    int16_t rtx_payload_types[6];
    int16_t red_payload_type;
    uint8_t wide; /* the subscriber reads header extensions in the two-byte form */
    uint32_t ssrc;
    uint32_t rtx_ssrc;
    uint32_t clock_rate;
    uint8_t number_id; /* of the transport-wide number; 0 for none */
    uint16_t first_sequence;
    uint32_t first_timestamp;
    int16_t carried[8]; /* our id of each carried extension, -1 for none */
} qe_sender_spec;

typedef struct {
    uint64_t received, received_octets, sent, sent_octets, rejected, unrouted, failures;
} qe_counters;

typedef struct {
    uint32_t track;
    int32_t rid;
    uint32_t ssrc;
    uint32_t retransmission;
    uint64_t packets, octets;
    uint32_t width;
    uint32_t fraction_lost;
    int64_t last_ns;
    int64_t packets_lost;
    int64_t highest_sequence;
    int64_t jitter;
    uint64_t last_sr;
    int64_t delay;
    uint32_t layered;
    uint64_t layer_octets[16]; /* four temporal layers of each spatial one; 0: never seen */
    int64_t layer_ns[16];
    uint16_t widths[4];
} qe_stream_state;

typedef struct {
    uint32_t serial;
    uint32_t track; /* 0 for none */
    int32_t rid;
    uint32_t retransmitted;
    uint64_t packets, octets;
    int64_t last_ns;
    uint32_t sequence;
    int32_t spatial, temporal; /* what goes out of a stream that holds layers; else -1 */
} qe_sender_state;

typedef struct {
    uint32_t transport;
    uint32_t sender;
    uint32_t timestamp;
    uint64_t packets, octets;
} qe_translated;

typedef struct {
    int64_t at_ns;
    uint32_t number;
    uint32_t octets; /* 0 when not known any more */
} qe_numbered;

typedef struct {
    uint32_t serial;
    int32_t rid;
} qe_layer;

/* A record of the event buffers; `length` bytes follow, padded to a multiple of eight. */
enum { QE_DATAGRAM = 1, QE_RTCP = 2, QE_FIRST_PACKET = 3, QE_MOVED = 4, QE_TAPPED = 5 };
typedef struct {
    uint32_t kind;
    uint32_t length;
    uint32_t serial; /* of a transport (RTCP, moved) or a track */
    int32_t rid;
    int64_t at_ns;
    uint8_t address[24];
} qe_event;

/* `fd` is a bound UDP socket that stays the caller's. -1 makes an engine for tests: nothing is sent, see qe_output. */
qe_engine *qe_new(int fd, void *protect, void *unprotect);
int qe_start(qe_engine *);
void qe_stop(qe_engine *);
void qe_free(qe_engine *);

/* Readable when events wait. */
int qe_event_fd(qe_engine *);
/* The records collected since the last call, valid until the next one. Which: 0 for events, 1 for tapped packets. */
size_t qe_take_events(qe_engine *, int which, const uint8_t **records);
/* 0 strangers, 1 unsent, 2 lost events, 3 lost tapped packets, 4 datagrams sent in one piece for several, 5 retransmissions waiting */
uint64_t qe_figure(qe_engine *, int which);

qe_transport *qe_transport_add(qe_engine *, uint32_t serial);
void qe_transport_unlock(qe_engine *, qe_transport *, void *rtp_in, void *rtp_out);
void qe_transport_extensions(qe_engine *, qe_transport *, uint8_t mid, uint8_t rid, uint8_t repaired, uint8_t number);
void qe_transport_remove(qe_engine *, qe_transport *);
void qe_bind(qe_engine *, const uint8_t *address, qe_transport *);
void qe_unbind(qe_engine *, const uint8_t *address);
void qe_send_to(qe_engine *, qe_transport *, const uint8_t *address);
/* Authentic RTCP came from there. 1 when that is another address than before. */
int qe_follow(qe_engine *, qe_transport *, const uint8_t *address);
/* 0 while nothing may be sent there. */
int qe_target(qe_engine *, qe_transport *, uint8_t *address);
void qe_counters_of(qe_engine *, qe_transport *, qe_counters *);

qe_track *qe_publish(qe_engine *, qe_transport *, const qe_track_spec *);
void qe_unpublish(qe_engine *, qe_track *);
int qe_level(qe_engine *, qe_track *);
void qe_tap(qe_engine *, qe_track *, int taps);

qe_sender *qe_sender_add(qe_engine *, qe_transport *, const qe_sender_spec *);
void qe_sender_remove(qe_engine *, qe_sender *);
void qe_route(qe_engine *, qe_sender *, qe_track *, int paused, int64_t now_ns);
/* 1 when a key frame of that layer is needed now. */
int qe_select(qe_engine *, qe_sender *, int32_t rid);
/* For a stream that holds layers: all up to these. */
void qe_select_layers(qe_engine *, qe_sender *, uint8_t spatial, uint8_t temporal);
/* How many are on their way to the thread. */
int qe_retransmit(qe_engine *, qe_sender *, const uint16_t *sequences, uint32_t count, int64_t now_ns);

/* The last bit of the answer says whether the taps get this report too. */
uint32_t qe_translate(qe_engine *, qe_track *, uint32_t ssrc, uint32_t timestamp, uint64_t ntp, int64_t now_ns,
                      qe_translated *, uint32_t most);
uint32_t qe_sent(qe_engine *, qe_transport *, uint32_t first, uint32_t count, qe_numbered *);
/* Serials of the transports from which media came since then. */
uint32_t qe_receiving(qe_engine *, int64_t since_ns, uint32_t *serials, uint32_t most);
uint32_t qe_take_arrivals(qe_engine *, qe_transport *, qe_numbered *, uint32_t most);
uint32_t qe_streams(qe_engine *, qe_transport *, qe_track *only, int advance, int64_t now_ns, qe_stream_state *,
                    uint32_t most);
uint32_t qe_senders(qe_engine *, qe_transport *, qe_sender_state *, uint32_t most);
uint32_t qe_waiting(qe_engine *, qe_transport *, qe_layer *, uint32_t most);
/* Pairs of SSRC and sequence number; then the layers whose gap only a key frame mends. */
uint32_t qe_missing(qe_engine *, qe_transport *, int64_t now_ns, uint32_t *pairs, uint32_t most, qe_layer *broken,
                    uint32_t *broken_count, uint32_t most_broken);

/* For tests: what the thread does with one datagram and with waiting retransmissions; the packets made, one by one. */
void qe_feed(qe_engine *, const uint8_t *address, const uint8_t *data, uint32_t length, int64_t now_ns);
void qe_work(qe_engine *);
uint32_t qe_output(qe_engine *, uint8_t *address, uint8_t *data, uint32_t most);
