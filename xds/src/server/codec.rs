//! The gRPC method and codec of the aggregated discovery service, delta variant, and the answers of `reports`.
//!
//! Written by hand rather than taken from generated code, so that a response goes from the shared resources into the
//! frame that is sent without a copy in between, and so that neither a key nor the memory of a large response remains
//! in a stream's buffer. Knows no session.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use http_body_util::StreamBody;
use prost::{
    Message,
    bytes::{BufMut, Bytes, BytesMut},
};
use tonic::{
    Code, Status, Streaming,
    body::Body,
    codec::{BufferSettings, DecodeBuf, Decoder},
    codegen::{Service, http},
    metadata::{GRPC_CONTENT_TYPE, MetadataMap},
    server::NamedService,
};

use super::reports::EXPORT;
use crate::delta::{Request, Response};

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Responses of a stream.
pub(super) type Responses = Pin<Box<dyn Stream<Item = Result<Response, Status>> + Send>>;

/// Opens streams, and receives statistics.
pub(super) trait Open: Send + Sync + 'static {
    fn open(
        self: Arc<Self>,
        request: tonic::Request<tonic::Streaming<Request>>,
    ) -> impl Future<Output = Result<Responses, Status>> + Send;

    fn export(
        self: Arc<Self>,
        request: http::Request<Body>,
        max_request: usize,
    ) -> impl Future<Output = Result<(), Status>> + Send;
}

/// The gRPC service around an implementation of `Open`.
pub(super) struct Ads<O> {
    pub(super) open: Arc<O>,
    /// Maximum size of a message that a client may send, in bytes.
    pub(super) max_request: usize,
}

impl<O> Clone for Ads<O> {
    fn clone(&self) -> Self {
        Self { open: Arc::clone(&self.open), max_request: self.max_request }
    }
}

impl<O> NamedService for Ads<O> {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<O: Open> Service<http::Request<Body>> for Ads<O> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { open, max_request } = self.clone();
        Box::pin(async move {
            if request.uri().path() == EXPORT {
                return Ok(open
                    .export(request, max_request)
                    .await
                    .map_or_else(Status::into_http, |()| empty()));
            }
            if request.uri().path() != DELTA {
                // State-of-the-world xDS is refused as well: one protocol, tested well, is enough.
                return Ok(Status::unimplemented("only delta ADS is served").into_http());
            }
            let (parts, body) = request.into_parts();
            let requests = Streaming::new_request(RequestDecoder, body, None, Some(max_request));
            let metadata = MetadataMap::from_headers(parts.headers);
            let request = tonic::Request::from_parts(metadata, parts.extensions, requests);
            Ok(match open.open(request).await {
                Ok(responses) => answer(responses),
                Err(status) => status.into_http(),
            })
        })
    }
}

/// Size of a stream's buffer of requests at rest, in bytes: small, as thousands of streams are mostly idle.
const BUFFER: usize = 1024;
/// Size from which a frame is sent although further responses are ready, in bytes.
const FLUSH: usize = 32 * 1024;
/// Size of the prefix of a gRPC message, in bytes: the flag of compression, and the length.
pub(super) const PREFIX: usize = 5;

type Frame = hyper::body::Frame<Bytes>;

fn answer(responses: Responses) -> http::Response<Body> {
    let frames = stream::unfold(Some(responses), |responses| async {
        let (frame, rest) = frame(responses?).await;
        Some((Ok::<Frame, Infallible>(frame), rest))
    });
    let mut answer = http::Response::new(Body::new(StreamBody::new(frames)));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    answer
}

/// Returns the next frame, in a buffer of its own that is freed with it, and the responses after it, if it is not last.
async fn frame(mut responses: Responses) -> (Frame, Option<Responses>) {
    let mut frame = BytesMut::new();
    let mut next = responses.next().await;
    loop {
        match next {
            Some(Ok(response)) => append(&response, &mut frame),
            Some(Err(status)) if frame.is_empty() => return (end(&status), None),
            None if frame.is_empty() => return (end(&Status::new(Code::Ok, "")), None),
            Some(Err(status)) => {
                // The responses before the status are sent first.
                let rest: Responses = Box::pin(stream::iter([Err(status)]));
                return (Frame::data(frame.freeze()), Some(rest));
            }
            None => return (Frame::data(frame.freeze()), Some(Box::pin(stream::empty()))),
        }
        if frame.len() >= FLUSH {
            break;
        }
        match responses.next().now_or_never() {
            Some(ready) => next = ready,
            None => break,
        }
    }
    (Frame::data(frame.freeze()), Some(responses))
}

fn append(response: &Response, frame: &mut BytesMut) {
    let len = response.encoded_len();
    frame.reserve(PREFIX + len);
    frame.put_u8(0);
    // A response is far below 4 GB: it holds a part of what this process holds.
    frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    response.encode(frame);
}

/// Builds the answer of a unary method whose message is empty.
fn empty() -> http::Response<Body> {
    let frames = [Frame::data(Bytes::from_static(&[0; PREFIX])), end(&Status::new(Code::Ok, ""))];
    let frames = stream::iter(frames.map(Ok::<Frame, Infallible>));
    let mut answer = http::Response::new(Body::new(StreamBody::new(frames)));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    answer
}

/// Builds the trailers that end a stream.
fn end(status: &Status) -> Frame {
    let mut trailers = http::HeaderMap::new();
    // Cannot fail for a status whose message is text; a stream that ends without a status has failed for its client.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

struct RequestDecoder;

impl Decoder for RequestDecoder {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        let request = Request::decode(buf);
        request.map(Some).map_err(|error| Status::invalid_argument(format!("malformed request: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, FLUSH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delta::Item,
        resources::{Resource, ResourceType, Version},
    };

    fn response(nonce: u64, len: usize) -> Response {
        let (kind, name, version) = (ResourceType::Route, "a".into(), Version::new("1"));
        let resource = Resource { kind, name, version, body: vec![7; len].into() };
        Response { kind, nonce, updated: vec![Item::Shared(Arc::new(resource))], removed: Vec::new() }
    }

    /// Returns the data of the next frame, and the responses after it.
    fn next(responses: Responses) -> (Result<Bytes, Frame>, Option<Responses>) {
        let (frame, rest) = frame(responses).now_or_never().expect("it is ready");
        (frame.into_data(), rest)
    }

    #[test]
    fn what_is_ready_together_goes_together_and_leaves_no_buffer_behind() {
        let all = [response(1, 10), response(2, 1 << 20), response(3, 10)].map(Ok);
        let responses: Responses = Box::pin(stream::iter(all).chain(stream::pending()));
        let (first, rest) = next(responses);
        let first = first.expect("data");
        let two = 2 * PREFIX + response(1, 10).encoded_len() + response(2, 1 << 20).encoded_len();
        assert_eq!(first.len(), two);
        // The frame is the only owner of its buffer, so sending it frees the buffer.
        assert!(first.is_unique());
        let (second, rest) = next(rest.expect("it goes on"));
        let second = second.expect("data");
        assert_eq!(
            second.first_chunk(),
            Some(&[0, 0, 0, 0, u8::try_from(second.len() - PREFIX).expect("small")])
        );
        assert!(second.is_unique());
        assert!(frame(rest.expect("it goes on")).now_or_never().is_none(), "there is no more");
    }

    #[test]
    fn a_stream_ends_with_its_status_after_its_messages() {
        let all = [Ok(response(1, 10)), Err(Status::unavailable("later"))];
        let (message, rest) = next(Box::pin(stream::iter(all)));
        assert!(message.is_ok());
        let (ended, rest) = next(rest.expect("it goes on"));
        let trailers = ended.expect_err("no data").into_trailers().expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"14".parse().expect("a value"), &"later".parse().expect("a value"))
        );
        assert!(rest.is_none());
        let (ended, rest) = next(Box::pin(stream::empty()));
        assert_eq!(ended.expect_err("no data").into_trailers().expect("trailers")["grpc-status"], "0");
        assert!(rest.is_none());
    }
}
