//! The machines of the proof, each a network namespace with the redirection of the product, its proxy and its program,
//! and the requests of one of them. The test's own namespace routes between them and has the control planes.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use smidge_testing::control_plane::until;

use super::Replicas;
use crate::differential::network::{self, Hosts};

pub const CALLER: &str = "web";
pub const SERVERS: [&str; 2] = ["api-v1", "api-v2"];
/// Address of the control planes.
pub const CONTROL_PLANE: &str = "198.19.0.1";
/// Address and port of the Service that is called.
const SERVICE: (&str, u16) = ("198.18.1.1", 80);
/// Port of the servers.
const PORT: u16 = 8080;
/// Requests of a step.
const REQUESTS: usize = 100;
/// Maximum number of requests of a run.
const MAX_REQUESTS: usize = 200_000;
/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `proof` where these machines are.
pub fn isolated(test: &str, proof: impl FnOnce()) {
    let all = [CALLER, SERVERS[0], SERVERS[1]].map(|name| (name, address(name)));
    let hosts = Hosts { own: CONTROL_PLANE, all: &all, commands: "", variables: &[] };
    network::isolated_among(&hosts, test, proof);
}

fn address(name: &str) -> &'static str {
    match name {
        "api-v1" => "198.19.1.1",
        "api-v2" => "198.19.1.2",
        _ => "198.19.2.1",
    }
}

/// A machine with its proxy, which ends with this value.
pub struct Machine {
    name: &'static str,
    proxy: Child,
    log: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn smidge(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_smidge")).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

impl Machine {
    /// Starts the proxy, and the program if the machine is called.
    pub fn start(envoy: &Path, name: &'static str, replicas: &Replicas) -> Self {
        let place = replicas.folder.path();
        let state = replicas.all[0].start.state.to_str().unwrap().to_owned();
        let credentials = place.join(name);
        let credentials = credentials.to_str().unwrap();
        let machine = format!("shop/{name}");
        smidge(&["machine", "certificate", &machine, "--state", &state, "--out", credentials]);
        let mut arguments = vec!["machine", "bootstrap", &machine, "--state", &state];
        arguments.extend(["--credentials", credentials, "--address", address(name)]);
        let servers: Vec<String> = replicas.all.iter().map(|replica| replica.start.xds.to_string()).collect();
        arguments.extend(servers.iter().flat_map(|server| ["--control-plane", server]));
        let bootstrap = place.join(format!("{name}.json"));
        fs::write(&bootstrap, smidge(&arguments)).unwrap();
        let log = place.join(format!("{name}.log"));
        let proxy = network::envoy_in(name, envoy)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "--config-path"])
            .arg(bootstrap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        if name != CALLER {
            network::within(name, || listen(name));
        }
        Self { name, proxy, log }
    }

    /// Waits until the proxy is ready.
    pub fn ready(&self, replicas: &Replicas) {
        let is_ready = || get(address(self.name), 15_021, "/healthz/ready").is_ok();
        let state = || format!("{}\n{}", fs::read_to_string(&self.log).unwrap(), replicas.state());
        until(&format!("the proxy of {} is ready", self.name), state, is_ready);
    }
}

fn listen(name: &'static str) {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // A caller may close a connection at any time.
            thread::spawn(move || drop(serve(stream, name)));
        }
    });
}

/// Answers every request with the name of the machine.
fn serve(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            stream.write_all(answer.as_bytes())?;
        }
    }
    Ok(())
}

/// Makes one request on a connection of its own, and returns the body of a response with status 200.
fn get(address: &str, port: u16, path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((address, port)).map_err(failed)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(answer.clone())?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(answer) }
}

/// Requests of the caller, one after another, until it is ended.
pub struct Load {
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Answers {
    count: usize,
    last: String,
    failed: Vec<String>,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.answers.lock().unwrap())
    }
}

impl Load {
    pub fn start() -> Self {
        let answers = Arc::<Mutex<Answers>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (kept, stopped) = (Arc::clone(&answers), Arc::clone(&stop));
        let task = thread::spawn(move || {
            network::within(CALLER, || {
                let mut made = 0;
                while !stopped.load(SeqCst) && made < MAX_REQUESTS {
                    let answer = get(SERVICE.0, SERVICE.1, "/look");
                    made += 1;
                    let mut answers = kept.lock().unwrap();
                    answers.count = made;
                    match answer {
                        Ok(server) => answers.last = server,
                        Err(error) => answers.failed.push(format!("request {made}: {error}")),
                    }
                }
            });
        });
        Self { answers, stop, task }
    }

    fn count(&self) -> usize {
        self.answers.lock().unwrap().count
    }

    /// Waits until further requests were answered, and checks that none failed.
    pub fn goes_on(&self, replicas: &Replicas) {
        let enough = self.count() + REQUESTS;
        until("further requests", || replicas.state(), || self.count() >= enough);
        assert!(self.answers.lock().unwrap().failed.is_empty(), "{self}\n{}", replicas.state());
    }

    /// Returns true if that server answered the last request.
    pub fn last_served(&self, server: &str) -> bool {
        self.answers.lock().unwrap().last == server
    }

    /// Ends the requests and returns their number. Panics if one has failed.
    pub fn end(self) -> usize {
        self.stop.store(true, SeqCst);
        self.task.join().unwrap();
        let answers = self.answers.lock().unwrap();
        assert!(answers.failed.is_empty(), "{answers:?}");
        answers.count
    }
}
