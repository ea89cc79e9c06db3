//! Fuzz target of a delta session: a client sends arbitrary requests while the view changes. The session always stops
//! sending, sends only what the view has, and sends nothing more to a client that has acknowledged everything.
//!
//! The input is a program: a byte selects the event, and the bytes after it its operands.

use std::sync::{Arc, LazyLock};

use prost::Message as _;
use smidge_xds::{
    delta::{ErrorDetail, IDENTITY, Request, Response, Secret, SecretNeed, Session},
    resources::{ResourceType, Version},
    view::View,
};
use smidge_xds_testing::fixture;

/// Names of resources of every type: some are in views, the last one never is.
const NAMES: [&str; 5] = ["a", "b", "inbound", IDENTITY, "nobody has this"];
const VERSIONS: [&str; 3] = ["1", "2", "2+drain"];
/// Maximum number of responses in a row, and of rounds of ACKs. A session that needs more does not terminate.
const MANY: usize = 200;

/// Views that differ in names and in versions, and an empty one.
static VIEWS: LazyLock<Vec<Arc<View>>> = LazyLock::new(|| {
    let of = |shift: usize| {
        let kinds = ResourceType::ALL.into_iter().filter(|kind| *kind != ResourceType::Secret).enumerate();
        let all = kinds.flat_map(|(number, kind)| {
            let names = NAMES.iter().take(3).enumerate();
            names.map(move |(index, name)| (kind, *name, number + index * 2 + shift))
        });
        let shown: Vec<_> = all
            .filter(|(_, _, mix)| mix % 4 != 3)
            .map(|(kind, name, mix)| (kind, name, VERSIONS[mix % VERSIONS.len()]))
            .collect();
        fixture::view(&shown)
    };
    std::iter::once(fixture::view(&[])).chain((0..6).map(of)).collect()
});

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let byte = self.next()?;
        all.get(usize::from(byte) % all.len()).copied()
    }

    fn some(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.next()?).min(self.0.len());
        let (some, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(some)
    }
}

/// Builds a request from bytes of the program.
fn request(bytes: &mut Bytes<'_>, sent: &[Response]) -> Option<Request> {
    let kind = bytes.of(&ResourceType::ALL)?;
    let what = bytes.next()?;
    let mut request = Request { type_url: kind.type_url().to_owned(), ..Request::default() };
    if what & 1 != 0 {
        request.subscribe.push(bytes.of(&NAMES)?.to_owned());
    }
    if what & 2 != 0 {
        request.unsubscribe.push(bytes.of(&NAMES)?.to_owned());
    }
    if what & 4 != 0 {
        request.subscribe.push("*".to_owned());
    }
    if what & 8 != 0 {
        request.initial_versions.insert(bytes.of(&NAMES)?.to_owned(), bytes.of(&VERSIONS)?.to_owned());
    }
    if what & 16 != 0 {
        let nonce = sent.get(usize::from(bytes.next()?) % sent.len().max(1)).map_or(0, |sent| sent.nonce);
        request.response_nonce = nonce.to_string();
    }
    if what & 32 != 0 {
        request.error = Some(ErrorDetail { message: "no".to_owned() });
    }
    Some(request)
}

/// Receives all responses of the session, and checks each of them.
fn listen(session: &mut Session, sent: &mut Vec<Response>) {
    for _ in 0..MANY {
        let Some(response) = session.next_response() else { return };
        let view = session.view().expect("nothing is said without a view");
        for item in &response.updated {
            let shown = view.get(response.kind, item.name()).is_some();
            assert!(shown || item.name() == IDENTITY, "{item:?} is not in the view");
        }
        for name in &response.removed {
            assert!(view.get(response.kind, name).is_none(), "{name} is in the view, and said to be gone");
        }
        assert!(sent.last().is_none_or(|last| last.nonce < response.nonce), "a nonce comes again");
        let mut wire = Vec::new();
        response.encode(&mut wire);
        assert_eq!(wire.len(), response.encoded_len());
        sent.push(response);
    }
    panic!("it does not come to an end");
}

fn happen(session: &mut Session, bytes: &mut Bytes<'_>, sent: &[Response]) -> Option<()> {
    match bytes.next()? % 8 {
        0 => session.on_view(VIEWS.get(usize::from(bytes.next()?) % VIEWS.len()).cloned()?),
        1 => {
            if let Ok(request) = Request::decode(bytes.some()?) {
                session.on_request(&request);
            }
        }
        2 => match session.secret_need() {
            SecretNeed::Nothing => {}
            SecretNeed::Issue => {
                let version = Version::new(bytes.of(&VERSIONS)?);
                session.on_secret(Secret::new(version, "chain", "key"));
            }
            SecretNeed::Judgement(_) => session.keep_secret(),
        },
        _ => {
            let request = request(bytes, sent)?;
            session.is_ack_or_nack(&request);
            session.on_request(&request);
        }
    }
    Some(())
}

/// Runs one input.
pub fn run(program: &[u8]) {
    let mut bytes = Bytes(program);
    let mut session = Session::new();
    let mut sent = Vec::new();
    while happen(&mut session, &mut bytes, &sent).is_some() {
        listen(&mut session, &mut sent);
    }
    // From here on the client acknowledges every response.
    let (mut answered, mut settled) = (0, false);
    for _ in 0..MANY {
        if matches!(session.secret_need(), SecretNeed::Issue) {
            session.on_secret(Secret::new(Version::new("9"), "chain", "key"));
        }
        listen(&mut session, &mut sent);
        let news = sent.split_at(answered).1;
        settled = news.is_empty();
        if settled {
            break;
        }
        answered = sent.len();
        let answers: Vec<_> = news
            .iter()
            .map(|sent| Request {
                type_url: sent.kind.type_url().to_owned(),
                response_nonce: sent.nonce.to_string(),
                ..Request::default()
            })
            .collect();
        for answer in &answers {
            session.on_request(answer);
        }
    }
    assert!(settled, "a client that answers everything is told more for ever");
}
