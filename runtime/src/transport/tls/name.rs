//! Who a certificate is for: the application and the role, written as a URI.

use std::fmt;
use std::str::FromStr;

use lamplighter_policies::ids::EntityId;

const SCHEME: &str = "lamplighter://";

/// Who somebody is, as the application's authority has certified.
///
/// Written `lamplighter://APPLICATION/manager`, `lamplighter://APPLICATION/agent/SERVER` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The application.
    pub application: EntityId,
    /// The part played in it.
    pub role: Role,
}

/// A part that is played in an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes the certificates of the others.
    Authority,
    /// The manager, and the store that it serves.
    Manager,
    /// The agent of one server, and the hosts that it starts.
    Agent(EntityId),
    /// A person's commands.
    Operator,
}

impl Role {
    /// What kind of role it is, whatever the server.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Authority => Kind::Authority,
            Self::Manager => Kind::Manager,
            Self::Agent(_) => Kind::Agent,
            Self::Operator => Kind::Operator,
        }
    }
}

/// The kinds of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Role::Authority`].
    Authority,
    /// [`Role::Manager`].
    Manager,
    /// [`Role::Agent`].
    Agent,
    /// [`Role::Operator`].
    Operator,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "authority",
            Self::Manager => "manager",
            Self::Agent => "agent",
            Self::Operator => "operator",
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.application, self.role.kind())?;
        match &self.role {
            Role::Agent(server) => write!(f, "/{server}"),
            Role::Authority | Role::Manager | Role::Operator => Ok(()),
        }
    }
}

/// A URI that names no role of an application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no role of an application")]
pub struct InvalidName(String);

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(text.to_owned());
        let id = |name: &str| EntityId::new(name).map_err(|_| invalid());
        let path = text.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let parts: Vec<&str> = path.split('/').collect();
        let (application, role) = match parts[..] {
            [application, "authority"] => (application, Role::Authority),
            [application, "manager"] => (application, Role::Manager),
            [application, "operator"] => (application, Role::Operator),
            [application, "agent", server] => (application, Role::Agent(id(server)?)),
            _ => return Err(invalid()),
        };
        Ok(Self {
            application: id(application)?,
            role,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for text in [
            "lamplighter://smart-home/authority",
            "lamplighter://smart-home/manager",
            "lamplighter://smart-home/operator",
            "lamplighter://smart-home/agent/rpi1",
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "https://smart-home/manager",
            "lamplighter://smart-home",
            "lamplighter://smart-home/",
            "lamplighter://smart-home/king",
            "lamplighter://smart-home/agent",
            "lamplighter://smart-home/agent/",
            "lamplighter://smart-home/agent/../rpi2",
            "lamplighter://smart-home/agent/rpi1/more",
            "lamplighter://smart-home/manager/",
            "lamplighter://Smart Home/manager",
            "lamplighter:///manager",
        ] {
            assert_eq!(text.parse::<Name>(), Err(InvalidName(text.to_owned())));
        }
    }
}
