//! Rights on a Kafka with an authorizer, as `kafka-acls.sh --add` grants them.

use std::time::Duration;

use super::protocol::{Request, int32};
use crate::Error;
use crate::net::wait_for;

/// What an operation is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Resource {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// One right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// `User:NAME`; of a certificate, `User:CN=NAME`.
    pub principal: String,
    /// What the operation is on.
    pub resource: Resource,
    /// Its name, or what it begins with.
    pub name: String,
    /// Whether all names that begin so are meant.
    pub prefixed: bool,
    /// What may be done.
    pub operation: Operation,
}

impl Acl {
    /// The resource, the principal and the operation, as both requests have them.
    fn add_to(&self, request: Request) -> Request {
        const LITERAL: i8 = 3;
        const PREFIXED: i8 = 4;
        const ALLOW: i8 = 3;

        request
            .int8(self.resource as i8)
            .string(&self.name)
            .int8(if self.prefixed { PREFIXED } else { LITERAL })
            .string(&self.principal)
            .string("*")
            .int8(self.operation as i8)
            .int8(ALLOW)
    }
}

pub(super) fn create(port: u16, acls: &[Acl]) -> Result<(), Error> {
    const CREATE_ACLS: i16 = 30;

    let Some(last) = acls.last() else { return Ok(()) };
    let count = i32::try_from(acls.len()).unwrap_or(i32::MAX);
    let request = Request::new(CREATE_ACLS, 1).int32(count);
    let request = acls.iter().fold(request, |request, acl| acl.add_to(request));
    let answer = request.send(port).map_err(|error| Error::io("grant rights on Kafka", error))?;
    // After the throttle time and their number, each has a code of two bytes and a message, of
    // which two bytes say that there is none where the code is zero.
    let results = answer.get(8..).unwrap_or_default();
    let granted = results.chunks(4).all(|result| result.starts_with(&[0, 0]));
    if results.len() != 4 * acls.len() || !granted {
        return Err(Error::new(format!(
            "Kafka did not grant rights: {}",
            String::from_utf8_lossy(&answer)
        )));
    }
    // The last one that was granted is the last one to be known.
    wait_for(Duration::from_secs(30), || is_known(port, last).then_some(()))
        .ok_or_else(|| Error::new("Kafka has granted rights, and does not know them"))
}

fn is_known(port: u16, acl: &Acl) -> bool {
    const DESCRIBE_ACLS: i16 = 29;

    let answer = acl.add_to(Request::new(DESCRIBE_ACLS, 1)).send(port).unwrap_or_default();
    // After the throttle time, the code and no message: the number of resources.
    answer.get(4..6) == Some(&[0, 0]) && int32(&answer, 8) > 0
}
