//! Contexts that wait for the next request of this core.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use super::RequestContext;
use crate::base::limits;

/// The blank contexts of one core, newest first (its memory is still in the cache).
#[derive(Clone, Default)]
pub struct ContextPool {
    // Boxed: a lease moves a pointer, not the 1 KiB context.
    #[allow(clippy::vec_box)]
    idle: Rc<RefCell<Vec<Box<RequestContext>>>>,
}

impl ContextPool {
    /// A blank context; allocates only when none waits.
    pub fn lease(&self) -> ContextLease {
        let context = self.idle.borrow_mut().pop().unwrap_or_default();
        assert!(context.is_blank(), "a waiting context holds no client's bytes");
        ContextLease { pool: self.clone(), context: Some(context) }
    }
}

/// A context in use; back in its pool when dropped.
pub struct ContextLease {
    pool: ContextPool,
    context: Option<Box<RequestContext>>,
}

impl Deref for ContextLease {
    type Target = RequestContext;
    fn deref(&self) -> &RequestContext {
        match &self.context {
            Some(context) => context,
            None => unreachable!("only drop takes the context"),
        }
    }
}

impl DerefMut for ContextLease {
    fn deref_mut(&mut self) -> &mut RequestContext {
        match &mut self.context {
            Some(context) => context,
            None => unreachable!("only drop takes the context"),
        }
    }
}

impl Drop for ContextLease {
    /// Clears on return, not on lease: no client's bytes lie in memory waiting for the next one.
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else { return };
        context.clear();
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() < limits::CONTEXTS_KEPT_MAX {
            idle.push(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_back_blank_and_is_used_again() {
        let pool = ContextPool::default();
        let mut lease = pool.lease();
        lease.host.extend_from_slice(b"secret.test");
        let address: *const RequestContext = &*lease;
        drop(lease);
        let again = pool.lease();
        assert!(again.is_blank());
        assert!(std::ptr::eq(address, &*again), "the same memory serves the next request");
    }
}
