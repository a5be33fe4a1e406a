//! A scenario from its file, with everything that only the simulator can check.

use std::path::Path;

use sabotage::Bug;
use scenario::Scenario;

use crate::marks::Mark;

/// Reads a scenario that can be run.
///
/// Errors: in words, on one line, with the file's name.
pub(super) fn load(path: &Path) -> Result<Scenario, String> {
    let scenario = Scenario::load(path).map_err(|error| error.to_string())?;
    let file = path.display();
    if let Some(name) = scenario.expect.marks.iter().find(|name| Mark::named(name).is_none()) {
        return Err(format!("{file}: there is no mark `{name}`; `cargo sim marks` lists them"));
    }
    if let Some(name) = scenario.plant.as_deref().filter(|name| bug(name).is_none()) {
        return Err(format!("{file}: there is no bug `{name}`; `cargo sim sabotage` lists them"));
    }
    Ok(scenario)
}

/// The bug of this name.
pub(super) fn bug(name: &str) -> Option<Bug> {
    Bug::ALL.iter().copied().find(|bug| bug.name() == name)
}
