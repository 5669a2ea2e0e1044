//! Output ports: named, typed, constant.

use std::fmt;
use std::marker::PhantomData;

/// An output port that carries values of type `T`. What is bound to it stands in the topology file;
/// a value of another type does not compile.
///
/// ```
/// use lamplighter::prelude::*;
///
/// const LAMP: Output<bool> = Output::new("lamp");
/// assert_eq!(LAMP.name(), "lamp");
/// ```
pub struct Output<T> {
    name: &'static str,
    carries: PhantomData<fn(T)>,
}

impl<T> Output<T> {
    /// The port of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            carries: PhantomData,
        }
    }

    /// Its name, as the topology file writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Output<T> {}

impl<T> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({:?})", self.name)
    }
}

impl<T> PartialEq<Output<T>> for String {
    fn eq(&self, port: &Output<T>) -> bool {
        self == port.name
    }
}
