//! Calls that fail or panic, for tests of what the store does then.

use std::{collections::VecDeque, io, iter::repeat_n, sync::PoisonError};

use crate::store::{
    disk::{Class, Disk},
    error::Error,
};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this error number.
    Fails(i32),
    /// It panics.
    Panics,
}

/// What happens to the next calls of each class.
pub(in crate::store::disk) type Faults = VecDeque<(Class, Option<Fault>)>;

impl Disk {
    /// From now on, the next `times` calls of this class meet this fault.
    pub(crate) fn put_in_the_way(&self, class: Class, fault: Fault, times: usize) {
        let mut faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(repeat_n((class, Some(fault)), times));
    }

    /// The call of this class that comes after `calls` others meets this fault.
    pub(crate) fn put_in_the_way_after(&self, class: Class, fault: Fault, calls: usize) {
        let mut faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(repeat_n((class, None), calls));
        faults.push_back((class, Some(fault)));
    }

    /// The number of faults that no call has met.
    pub(crate) fn unmet(&self) -> usize {
        let faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().filter(|(_, fault)| fault.is_some()).count()
    }

    /// No call meets a fault any more.
    pub(crate) fn mend(&self) {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(in crate::store::disk) fn meet_faults(&self, class: Class) -> Result<(), Error> {
        let met = {
            let mut faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let first = faults.iter().position(|(of, _)| *of == class);
            first.and_then(|index| faults.remove(index)).and_then(|(_, fault)| fault)
        };
        match met {
            None => Ok(()),
            Some(Fault::Fails(number)) => Err(io::Error::from_raw_os_error(number).into()),
            Some(Fault::Panics) => std::panic::resume_unwind(Box::new("a test")),
        }
    }
}
