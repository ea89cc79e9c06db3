//! The gRPC method and codec of the aggregated discovery service, delta variant.
//!
//! Written by hand rather than taken from generated code, so that a response goes from the shared resources into the
//! stream's buffer without a copy in between, and so that a key is not left in one. Knows no session.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use prost::Message;
use tonic::{
    Status,
    body::Body,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Service, http},
    server::{Grpc, NamedService, StreamingService},
};

use crate::delta::{Request, Response};

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// What a stream answers with.
pub(super) type Responses = Pin<Box<dyn Stream<Item = Result<Response, Status>> + Send>>;

/// Opens streams.
pub(super) trait Open: Send + Sync + 'static {
    fn open(
        self: Arc<Self>,
        request: tonic::Request<tonic::Streaming<Request>>,
    ) -> impl Future<Output = Result<Responses, Status>> + Send;
}

/// The gRPC service around whatever opens streams.
pub(super) struct Ads<O> {
    pub(super) open: Arc<O>,
    /// The largest message that a client may send, in bytes.
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
            if request.uri().path() != DELTA {
                // State of the world included: one protocol, tested well, is enough.
                return Ok(Status::unimplemented("only delta ADS is served").into_http());
            }
            let mut grpc = Grpc::new(AdsCodec).apply_max_message_size_config(Some(max_request), None);
            Ok(grpc.streaming(Method(open), request).await)
        })
    }
}

struct Method<O>(Arc<O>);

impl<O: Open> StreamingService<Request> for Method<O> {
    type Response = Response;
    type ResponseStream = Responses;
    type Future = BoxFuture<'static, Result<tonic::Response<Responses>, Status>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<Request>>) -> Self::Future {
        let open = Arc::clone(&self.0);
        Box::pin(async move { open.open(request).await.map(tonic::Response::new) })
    }
}

#[derive(Clone, Copy)]
struct AdsCodec;

/// Bytes of a stream's buffers at rest: small, as thousands of streams are mostly idle. They grow for a large message.
const BUFFER: usize = 1024;
/// Bytes of responses that go out as one frame if they are ready together.
const FLUSH: usize = 32 * 1024;

impl Codec for AdsCodec {
    type Encode = Response;
    type Decode = Request;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AdsCodec {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, response: Response, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(response.encoded_len());
        response.encode(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, FLUSH)
    }
}

impl Decoder for AdsCodec {
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
