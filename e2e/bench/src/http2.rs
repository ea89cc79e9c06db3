//! Client side of HTTP/2 with one gRPC stream and unary calls beside it, without I/O: turns received bytes into messages
//! and bytes to send.
//!
//! Used by `fleet` for every simulated proxy. Does what one long-lived stream and small calls need and nothing else: no
//! header is decoded (a stream that is refused ends, which is all that needs to be known), nothing is prioritised or
//! padded, and the receive window is opened once, wide enough for everything that is ever sent.

/// The long-lived stream of a connection.
const STREAM: u32 = 1;
/// Method of that stream.
const DISCOVERY: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Method of the calls: a push of statistics.
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// Maximum size of a window.
const WIDE: u32 = 0x7fff_ffff;
/// Initial window of a peer (RFC 9113, 6.9.2), and maximum size of a frame.
const WINDOW: i64 = 65_535;
const FRAME: usize = 16_384;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// State after received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    /// The server has ended the stream or the connection.
    Ended,
}

/// One connection.
#[derive(Debug)]
pub struct Http2 {
    /// Start of an incomplete frame.
    inbound: Vec<u8>,
    /// Start of an incomplete message.
    message: Vec<u8>,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
    /// Bytes that wait for a window.
    waiting: Vec<u8>,
    /// Stream of the last call.
    last: u32,
    /// Number of calls that were answered, and of those that were reset.
    pub calls: Calls,
}

/// Ends of calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    pub answered: u64,
    pub reset: u64,
}

impl Http2 {
    /// Opens a connection and appends its first bytes to `out`: the preface, and the headers of the one request.
    pub fn open(authority: &str, token: &str, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        // ENABLE_PUSH = 0, INITIAL_WINDOW_SIZE = wide.
        header(4, 0, 0, 12, out);
        out.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 4]);
        out.extend_from_slice(&WIDE.to_be_bytes());
        header(8, 0, 0, 4, out);
        out.extend_from_slice(&(WIDE - 65_535).to_be_bytes());
        let headers = headers(DISCOVERY, authority, token);
        header(1, 4, STREAM, headers.len(), out);
        out.extend_from_slice(&headers);
        Self {
            inbound: Vec::new(),
            message: Vec::new(),
            connection_window: WINDOW,
            stream_window: WINDOW,
            initial_window: WINDOW,
            waiting: Vec::new(),
            last: STREAM,
            calls: Calls::default(),
        }
    }

    /// Appends a call with this message to `out`, which is not answered yet. Returns false, and calls nothing, if the
    /// windows do not allow the whole message now.
    pub fn call(&mut self, (authority, token): (&str, &str), message: &[u8], out: &mut Vec<u8>) -> bool {
        let len = i64::try_from(message.len()).unwrap_or(i64::MAX) + 5;
        if len > self.connection_window.min(self.initial_window) || !self.waiting.is_empty() {
            return false;
        }
        self.connection_window -= len;
        self.last += 2;
        let headers = headers(EXPORT, authority, token);
        header(1, 4, self.last, headers.len(), out);
        out.extend_from_slice(&headers);
        let mut whole = vec![0];
        whole.extend_from_slice(&u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
        whole.extend_from_slice(message);
        for part in whole.chunks(FRAME) {
            header(0, 0, self.last, part.len(), out);
            out.extend_from_slice(part);
        }
        // END_STREAM, in a frame without data.
        header(0, 1, self.last, 0, out);
        true
    }

    /// Queues a gRPC message, and appends to `out` what the windows allow.
    pub fn send(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.waiting.push(0);
        self.waiting.extend_from_slice(&u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
        self.waiting.extend_from_slice(message);
        self.flush(out);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let window = usize::try_from(self.connection_window.min(self.stream_window)).unwrap_or_default();
        let len = self.waiting.len().min(window);
        let ready: Vec<u8> = self.waiting.drain(..len).collect();
        for part in ready.chunks(FRAME) {
            header(0, 0, STREAM, part.len(), out);
            out.extend_from_slice(part);
        }
        let sent = i64::try_from(len).unwrap_or_default();
        self.connection_window -= sent;
        self.stream_window -= sent;
    }

    /// Processes received bytes: passes every complete message to `visit`, and appends the required answers to `out`.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, mut visit: impl FnMut(&[u8])) -> State {
        let mut held = std::mem::take(&mut self.inbound);
        let mut left = bytes;
        if !held.is_empty() {
            held.extend_from_slice(bytes);
            left = &held;
        }
        let mut state = State::Open;
        while let Some((frame, rest)) = split(left) {
            left = rest;
            if self.on_frame(&frame, out, &mut visit) == State::Ended {
                state = State::Ended;
            }
        }
        self.inbound = left.to_vec();
        state
    }

    fn on_frame(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>, visit: &mut impl FnMut(&[u8])) -> State {
        let Frame { kind, flags, stream, payload } = *frame;
        if stream != 0 && stream != STREAM {
            self.calls.answered += u64::from(kind <= 1 && flags & 1 == 1);
            self.calls.reset += u64::from(kind == 3);
            return State::Open;
        }
        match kind {
            0 => self.on_data(payload, visit),
            4 if flags & 1 == 0 => {
                self.on_settings(payload);
                header(4, 1, 0, 0, out);
                self.flush(out);
            }
            6 if flags & 1 == 0 => {
                header(6, 1, 0, payload.len(), out);
                out.extend_from_slice(payload);
            }
            8 => {
                let window = if stream == 0 { &mut self.connection_window } else { &mut self.stream_window };
                *window += number(payload);
                self.flush(out);
            }
            3 | 7 => return State::Ended,
            _ => {}
        }
        // END_STREAM, which has a meaning on data and headers only.
        if kind <= 1 && flags & 1 == 1 { State::Ended } else { State::Open }
    }

    fn on_settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            if let [0, 4, value @ ..] = setting {
                let window = number(value);
                self.stream_window += window - self.initial_window;
                self.initial_window = window;
            }
        }
    }

    fn on_data(&mut self, payload: &[u8], visit: &mut impl FnMut(&[u8])) {
        let mut held = std::mem::take(&mut self.message);
        let mut left = payload;
        if !held.is_empty() {
            held.extend_from_slice(payload);
            left = &held;
        }
        while let Some((prefix, rest)) = left.split_at_checked(5) {
            let len = usize::try_from(number(prefix.get(1..).unwrap_or_default())).unwrap_or_default();
            let Some((message, rest)) = rest.split_at_checked(len) else { break };
            visit(message);
            left = rest;
        }
        self.message = left.to_vec();
    }
}

/// One frame.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// Splits a complete frame off the start of `bytes`.
fn split(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(9)?;
    let &[a, b, c, kind, flags, ref stream @ ..] = header else { return None };
    let (payload, rest) = rest.split_at_checked(usize::try_from(number(&[a, b, c])).ok()?)?;
    let stream = u32::try_from(number(stream)).ok()?;
    Some((Frame { kind, flags, stream, payload }, rest))
}

/// Appends the header of a frame.
pub fn header(kind: u8, flags: u8, stream: u32, len: usize, out: &mut Vec<u8>) {
    let len = u32::try_from(len).unwrap_or_default().to_be_bytes();
    out.extend_from_slice(len.get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte)) & 0x7fff_ffff
}

/// Builds the header block of the request, without any indexing or compression (RFC 7541, 6.2.2).
fn headers(path: &str, authority: &str, token: &str) -> Vec<u8> {
    let bearer = format!("Bearer {token}");
    let pairs = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &bearer),
    ];
    let mut block = Vec::new();
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            // A length of seven bits, then groups of seven bits (RFC 7541, 5.1).
            let mut len = text.len();
            if len < 127 {
                block.push(u8::try_from(len).unwrap_or_default());
            } else {
                block.push(127);
                len -= 127;
                while len >= 128 {
                    block.push(u8::try_from(len & 127).unwrap_or_default() | 128);
                    len >>= 7;
                }
                block.push(u8::try_from(len).unwrap_or_default());
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Appends the headers of a server's response to a gRPC stream: `:status: 200`, and the content type.
pub fn answer(out: &mut Vec<u8>) {
    let mut block = vec![0x88, 0];
    for text in ["content-type", "application/grpc"] {
        block.push(u8::try_from(text.len()).unwrap_or_default());
        block.extend_from_slice(text.as_bytes());
    }
    header(1, 4, STREAM, block.len(), out);
    out.extend_from_slice(&block);
}

/// Appends a gRPC message in one frame, as the baseline server sends it. A frame has at most 16 KiB: longer messages
/// are cut into several.
pub fn data(message: &[u8], out: &mut Vec<u8>) {
    let mut whole = vec![0];
    whole.extend_from_slice(&u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    whole.extend_from_slice(message);
    for part in whole.chunks(FRAME) {
        header(0, 0, STREAM, part.len(), out);
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_however_their_bytes_are_cut() {
        let mut bytes = Vec::new();
        header(4, 0, 0, 0, &mut bytes);
        answer(&mut bytes);
        data(b"one", &mut bytes);
        data(&vec![7; 40_000], &mut bytes);
        for step in [1, 3, 1000, bytes.len()] {
            let (mut out, mut sizes) = (Vec::new(), Vec::new());
            let mut http = Http2::open("a", "t", &mut out);
            out.clear();
            for part in bytes.chunks(step) {
                assert_eq!(http.receive(part, &mut out, |message| sizes.push(message.len())), State::Open);
            }
            assert_eq!(sizes, [3, 40_000]);
            assert_eq!(out.len(), 9, "the settings are acknowledged");
        }
    }

    #[test]
    fn calls_beside_the_stream_are_counted_when_they_end() {
        let mut out = Vec::new();
        let mut http = Http2::open("a", "t", &mut out);
        assert!(http.call(("a", "t"), &vec![1; 20_000], &mut out));
        assert!(http.call(("a", "t"), &vec![1; 20_000], &mut out));
        assert!(!http.call(("a", "t"), &vec![1; 40_000], &mut out), "beyond the window of the connection");
        let mut bytes = Vec::new();
        header(1, 4, 3, 0, &mut bytes);
        header(1, 5, 3, 0, &mut bytes);
        header(3, 0, 5, 0, &mut bytes);
        assert_eq!(http.receive(&bytes, &mut out, |_| ()), State::Open);
        assert_eq!((http.calls.answered, http.calls.reset), (1, 1));
    }

    #[test]
    fn nothing_is_sent_beyond_the_window() {
        let mut out = Vec::new();
        let mut http = Http2::open("a", "t", &mut out);
        out.clear();
        http.send(&vec![1; 100_000], &mut out);
        assert!(out.len() < 65_535 + 9 * 8);
        let mut update = Vec::new();
        for stream in [0, STREAM] {
            header(8, 0, stream, 4, &mut update);
            update.extend_from_slice(&100_000_u32.to_be_bytes());
        }
        http.receive(&update, &mut out, |_| ());
        assert!(out.len() > 100_000);
    }
}
