//! The shape of the house: how long files and functions are, how much of a crate is tests, and which of its modules lean on
//! each other in a circle. `make stats` prints it; what is too large may not grow.
//!
//! | | wanted |
//! |---|---|
//! | lines of a file | 120 in the median, 280 at the ninetieth of a hundred |
//! | lines of a function's body | 6, 18; never above 70 (clippy's part) |
//! | calls that panic, in a thousand lines | 0.4 |
//! | circles of modules | none |

mod modules;
mod shape;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use self::shape::Shape;

/// How many modules are in the largest circle of each crate. Whoever makes one smaller writes that down here.
const CIRCLES: [(&str, usize); 7] =
    [("mesh", 11), ("datapath", 2), ("docker", 2), ("aws", 2), ("shim", 2), ("router", 11), ("cli", 2)];

fn shape_of(name: &str) -> Result<Shape> {
    Shape::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")).context(name.to_owned())
}

#[test]
fn no_circle_of_modules_grows() -> Result<()> {
    println!("{}", Shape::HEADING);
    for (name, known) in CIRCLES {
        let shape = shape_of(name)?;
        println!("{name:10}{shape}");
        let circles = shape.circles();
        circles.iter().for_each(|circle| println!("{:10}a circle: {}", "", circle.join(" ")));
        let largest = circles.iter().map(Vec::len).max().unwrap_or_default();
        ensure!(
            largest == known,
            "{name}: its largest circle has {largest} modules, and {known} are written down here"
        );
    }
    Ok(())
}
