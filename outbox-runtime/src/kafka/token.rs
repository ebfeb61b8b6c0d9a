//! Tokens for SASL OAUTHBEARER: where they come from, and for how long one is used.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::client::OAuthToken;
use serde_json::Value;

use super::source::read_bounded;
use crate::user_code::caught;

/// Longest time that a client waits for a token. librdkafka asks again 10 s after a failure.
const WITHIN: Duration = Duration::from_secs(10);

/// A token for SASL OAUTHBEARER, which says to the brokers who a client is.
///
/// `Debug` does not show it.
#[derive(Clone)]
#[non_exhaustive]
pub struct AccessToken {
    /// The token itself, as the brokers take it.
    pub token: String,
    /// When it ends. A new one is asked for when four fifths of the time until then have passed.
    pub expires: SystemTime,
    /// Name of the user, for librdkafka's log alone: brokers take it from the token.
    pub user: String,
}

impl AccessToken {
    /// A token that is valid until `expires`.
    pub fn new(token: impl Into<String>, expires: SystemTime) -> Self {
        Self { token: token.into(), expires, user: String::new() }
    }

    /// A JSON Web Token, whose claims `exp` and `sub` say until when it is valid, and whose it is.
    /// Its signature is not checked: that is the brokers' part.
    ///
    /// # Errors
    /// If it is no JSON Web Token, or has no `exp`.
    pub fn from_jwt(token: impl Into<String>) -> Result<Self, NotAJwt> {
        let token = token.into();
        let claims = token.split('.').nth(1).and_then(from_base64_url);
        let claims: Value =
            claims.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(NotAJwt)?;
        let seconds = claims.get("exp").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
        let since = Duration::try_from_secs_f64(seconds.ok_or(NotAJwt)?).map_err(|_| NotAJwt)?;
        let expires = UNIX_EPOCH.checked_add(since).ok_or(NotAJwt)?;
        let user = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { token, expires, user })
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why [`AccessToken::from_jwt`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAJwt;

impl fmt::Display for NotAJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the access token is no JSON Web Token with the claim `exp`; for one of another kind, `AccessToken::new` takes the \
             time at which it ends",
        )
    }
}

impl Error for NotAJwt {}

/// What a callback of the user returns.
pub(crate) type Fetched = Result<AccessToken, Box<dyn Error + Send + Sync>>;

/// Where the tokens of all clients of a configuration come from.
pub(crate) struct Tokens {
    fetch: Arc<dyn Fn() -> Fetched + Send + Sync>,
    /// The last one, and when it was fetched.
    last: Mutex<Option<(AccessToken, SystemTime)>>,
    /// Whether a call of the callback has not returned yet, although nobody waits for it any more.
    busy: Arc<AtomicBool>,
}

impl Tokens {
    pub(crate) fn new(fetch: impl Fn() -> Fetched + Send + Sync + 'static) -> Self {
        Self { fetch: Arc::new(fetch), last: Mutex::default(), busy: Arc::default() }
    }

    /// From a file that something else keeps fresh.
    pub(crate) fn from_file(path: &Path) -> Self {
        let path = PathBuf::from(path);
        Self::new(move || {
            let text = read_bounded(&path)
                .map_err(|error| format!("cannot read the token in {}: {error}", path.display()))?;
            Ok(AccessToken::from_jwt(text.trim())?)
        })
    }

    /// A token for a client. All clients use the same, until three quarters of its life are over.
    pub(crate) fn current(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let token = match &*last {
            Some((token, fetched)) if is_fresh(token, *fetched, now) => token.clone(),
            _ => {
                let token = self.fetched()?;
                *last = Some((token.clone(), now));
                token
            }
        };
        let until = token.expires.duration_since(UNIX_EPOCH)?;
        let lifetime_ms = i64::try_from(until.as_millis())?;
        Ok(OAuthToken { token: token.token, principal_name: token.user, lifetime_ms })
    }

    /// Calls the callback on a thread of its own: it may never return.
    fn fetched(&self) -> Result<AccessToken, Box<dyn Error>> {
        if self.busy.swap(true, Ordering::Relaxed) {
            return Err("an earlier call for a token has not returned yet".into());
        }
        let (fetch, busy) = (Arc::clone(&self.fetch), Arc::clone(&self.busy));
        let (sender, receiver) = mpsc::sync_channel(1);
        let call = move || {
            // An error of the user may panic when it is shown.
            let fetched = caught(|| fetch().map_err(|error| error.to_string()));
            busy.store(false, Ordering::Relaxed);
            let _ = sender.send(match fetched {
                Ok(fetched) => fetched,
                Err(said) => Err(format!("the callback for tokens panicked: {said}")),
            });
        };
        if let Err(error) = thread::Builder::new().name("outbox-kafka-token".to_owned()).spawn(call)
        {
            self.busy.store(false, Ordering::Relaxed);
            return Err(error.into());
        }
        match receiver.recv_timeout(WITHIN) {
            Ok(fetched) => Ok(fetched.map_err(|said| said.replace('\0', " "))?),
            Err(_) => Err(format!("no token came within {} s", WITHIN.as_secs()).into()),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

fn is_fresh(token: &AccessToken, fetched: SystemTime, now: SystemTime) -> bool {
    let life = token.expires.duration_since(fetched).unwrap_or_default();
    // A clock that was set back makes it old.
    now.duration_since(fetched).is_ok_and(|age| age < life * 3 / 4)
}

/// Base64 with `-` and `_`, and without padding (RFC 7515).
fn from_base64_url(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for character in text.bytes() {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    // {"alg":"none"}.{"sub":"relay","exp":4102444800}.
    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZWxheSIsImV4cCI6NDEwMjQ0NDgwMH0.";

    #[test]
    fn a_json_web_token_says_until_when_it_is_valid_and_whose_it_is() {
        let token = AccessToken::from_jwt(JWT).unwrap();
        assert_eq!(token.user, "relay");
        assert_eq!(token.expires, UNIX_EPOCH + Duration::from_secs(4_102_444_800));
        assert!(!format!("{token:?}").contains("eyJ"), "{token:?}");
        for wrong in ["", "hunter2", "a.b.c", "e30.e30.", "e30.eyJleHAiOi0xfQ.", "e30.\u{e9}."] {
            assert!(AccessToken::from_jwt(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn clients_share_a_token_until_three_quarters_of_its_life_are_over() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let tokens = Tokens::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(AccessToken::from_jwt(JWT)?)
        });
        tokens.current().unwrap();
        assert_eq!(tokens.current().unwrap().lifetime_ms, 4_102_444_800_000);
        assert_eq!(calls.load(Ordering::Relaxed), 1);

        let (begun, life) = (UNIX_EPOCH, Duration::from_secs(100));
        let token = AccessToken::new("x", begun + life);
        for (seconds, fresh) in [(0, true), (74, true), (75, false), (101, false)] {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(is_fresh(&token, begun, now), fresh, "{seconds}");
        }
        assert!(!is_fresh(&token, begun, begun - life), "the clock was set back");
    }

    #[test]
    fn a_callback_that_fails_or_panics_is_an_error_and_is_called_again() {
        let tokens = Tokens::new(|| Err("the login server\0 is away".into()));
        for _ in 0..2 {
            let error = tokens.current().err().unwrap().to_string();
            assert!(error.contains("the login server") && !error.contains('\0'), "{error}");
        }
        let tokens = Tokens::new(|| panic!("on the floor"));
        for _ in 0..2 {
            let error = tokens.current().err().unwrap().to_string();
            assert!(error.contains("on the floor"), "{error}");
        }
    }
}
