//! gRPC without generated code: one message type, the four forms of a call, and a call that is never answered.
//!
//! The server's side is a route of `http`; the client's side is used by the shapes.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode, uri::PathAndQuery},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, TryStreamExt as _, future, stream, stream::BoxStream};
use tonic::{Code, Status, Streaming, client, server, transport::Channel};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The message of every call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    /// Its content.
    #[prost(string, tag = "1")]
    pub text: String,
}

type Codec = ProstCodec<Text, Text>;
type Texts = BoxStream<'static, Result<Text, Status>>;

/// Number of messages in a stream.
pub const MESSAGES: usize = 5;

fn text(text: impl Into<String>) -> Text {
    Text { text: text.into() }
}

/// Answers as `name` the methods `Unary`, `Never`, `Down` (a stream of answers), `Up` (a stream of requests) and `Both`.
pub async fn answer(method: &str, name: &str, request: Request<Body>) -> Response {
    let mut grpc = server::Grpc::new(Codec::default());
    let name = name.to_owned();
    let response = match method {
        "Unary" => {
            let unary = service_fn(move |_: tonic::Request<Text>| {
                future::ready(Ok(tonic::Response::new(text(name.as_str()))))
            });
            grpc.unary(unary, request).await
        }
        "Never" => {
            let never = |_: tonic::Request<Text>| future::pending::<Result<tonic::Response<Text>, Status>>();
            grpc.unary(service_fn(never), request).await
        }
        "Down" => {
            let down = |_: tonic::Request<Text>| {
                let answers: Texts =
                    stream::iter(0..MESSAGES).map(|number| Ok(text(number.to_string()))).boxed();
                future::ready(Ok(tonic::Response::new(answers)))
            };
            grpc.server_streaming(service_fn(down), request).await
        }
        "Up" => {
            let up = async |request: tonic::Request<Streaming<Text>>| {
                let count = request.into_inner().try_fold(0, async |count, _| Ok(count + 1)).await?;
                Ok(tonic::Response::new(text(count.to_string())))
            };
            grpc.client_streaming(service_fn(up), request).await
        }
        "Both" => {
            let both = |request: tonic::Request<Streaming<Text>>| {
                future::ready(Ok(tonic::Response::new(request.into_inner().boxed())))
            };
            grpc.streaming(service_fn(both), request).await
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    response.map(Body::new)
}

/// Client of the server.
pub struct Client(client::Grpc<Channel>);

impl Client {
    /// Connects to `host` at `port`.
    pub async fn connect(host: &str, port: u16) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(format!("http://{host}:{port}"))?.connect().await?;
        Ok(Self(client::Grpc::new(channel)))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))
    }

    /// Makes a call of one message each way.
    pub async fn unary(&mut self) -> Result<String, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/shapes.Shapes/Unary");
        let answer = self.0.unary(tonic::Request::new(text("one")), path, Codec::default()).await?;
        Ok(answer.into_inner().text)
    }

    /// Makes a call that is never answered, with a deadline, and returns its status.
    pub async fn deadline(&mut self, deadline: Duration) -> Result<Code, Status> {
        self.ready().await?;
        let mut request = tonic::Request::new(text("one"));
        request.set_timeout(deadline);
        let path = PathAndQuery::from_static("/shapes.Shapes/Never");
        let ended = self.0.unary::<Text, Text, _>(request, path, Codec::default()).await;
        Ok(ended.err().map_or(Code::Ok, |status| status.code()))
    }

    /// Receives a stream of messages, and returns their number.
    pub async fn down(&mut self) -> Result<usize, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/shapes.Shapes/Down");
        let answers =
            self.0.server_streaming(tonic::Request::new(text("one")), path, Codec::default()).await?;
        answers.into_inner().try_fold(0, async |count, _: Text| Ok(count + 1)).await
    }

    /// Sends a stream of messages, and returns the number that the server has counted.
    pub async fn up(&mut self) -> Result<String, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/shapes.Shapes/Up");
        let messages = stream::iter((0..MESSAGES).map(|number| text(number.to_string())));
        let answer = self.0.client_streaming(tonic::Request::new(messages), path, Codec::default()).await?;
        let Text { text } = answer.into_inner();
        Ok(text)
    }

    /// Sends each message when the one before has come back, and returns their number.
    pub async fn both(&mut self) -> Result<usize, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/shapes.Shapes/Both");
        let (sender, messages) = futures::channel::mpsc::unbounded();
        let _ = sender.unbounded_send(text("0"));
        let request = tonic::Request::new(messages);
        let mut answers = self.0.streaming(request, path, Codec::default()).await?.into_inner();
        let mut count = 0;
        while let Some(Text { .. }) = answers.message().await? {
            count += 1;
            if count == MESSAGES {
                sender.close_channel();
            } else {
                let _ = sender.unbounded_send(text(count.to_string()));
            }
        }
        Ok(count)
    }
}
