//! Phases: which policy is trained for how many steps, the automatic boundary layer, and the phase guard.

mod auto_layer;
mod climb;
mod drift;
mod guard;
mod schedule;
mod site_term;

pub(crate) use auto_layer::find_boundary;
pub(crate) use climb::written_out;
pub(crate) use drift::{InitialPolicy, first_responses, sampling_logp_difference};
pub(crate) use guard::{Alarm, Observation, PhaseGuard};
pub use guard::{GuardAction, PhaseGuardMode};
pub use schedule::{Phase, PhaseConfig, PhaseSite, Samples, Schedule};
pub use site_term::{SiteDivergence, SiteTerm};
