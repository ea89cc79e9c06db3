//! Token for the debug pages of a control plane without an API server: whoever can read its file may read the pages.
//!
//! Used by `readers` and by `smidge status`. The file is made once, for its owner alone; it is compared by a digest, so
//! that the time of a comparison tells nothing about it.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use axum::{
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::auth;

/// File of the token, in the folder of the control plane's state.
pub const FILE: &str = "debug-token";
/// Maximum length of the file, in bytes.
const LENGTH: u64 = 256;

/// Error of reading or making the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or made.
    #[error("failed to {verb} {}", path.display())]
    File {
        /// `read` or `create`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{} has the mode {mode:o}: expected 600 (hint: chmod 600 it, or delete it for a new one)", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// The mode found.
        mode: u32,
    },
    /// It is empty.
    #[error("{} is empty (hint: delete it for a new one)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Digest of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    digest: [u8; 32],
}

impl Token {
    /// Reads the token in the folder `state`; makes it if there is none.
    pub fn open(state: &Path) -> Result<Self, TokenError> {
        let path = state.join(FILE);
        let text = Zeroizing::new(hexadecimal(&rand::random::<[u8; 32]>()));
        match create(&path, &text) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(TokenError::File { verb: "create", path, source: error });
            }
            _ => {}
        }
        let text = read(state)?;
        Ok(Self { digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// Admits a request with this token, or returns the response that refuses it.
    #[expect(clippy::result_large_err, reason = "the caller sends it at once")]
    pub(super) fn admit(&self, headers: &HeaderMap, path: &str) -> Result<(), Response> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        let token = value.filter(|_| values.next().is_none()).and_then(|value| auth::bare(value).ok());
        if token.is_some_and(|token| Sha256::digest(token.as_bytes())[..] == self.digest) {
            return Ok(());
        }
        let words = format!(
            "reading {path} needs the token in the file {FILE} of the control plane's state (hint: `smidge status`, or send \
             \"Authorization: Bearer TOKEN\")\n"
        );
        Err((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], words).into_response())
    }
}

/// Makes the file, unless there is one: with its content from the first moment, so that of two processes that start at
/// once, one makes it and the other reads it.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension(format!("{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let linked = io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    linked
}

/// Returns the text of the token in the folder `state`.
pub fn read(state: &Path) -> Result<Zeroizing<String>, TokenError> {
    let path = state.join(FILE);
    let failed = |source| TokenError::File { verb: "read", path: path.clone(), source };
    let mode = fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Mode { path, mode });
    }
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(&path).map_err(failed)?;
    io::Read::read_to_string(&mut io::Read::take(file, LENGTH), &mut text).map_err(failed)?;
    let bare = Zeroizing::new(text.trim().to_owned());
    if bare.is_empty() { Err(TokenError::Empty { path }) } else { Ok(bare) }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
