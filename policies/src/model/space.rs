//! A geographical space: a region of the physical world (paper, 3.2).

use serde::{Deserialize, Serialize};

/// A box, edges included, in metres of the site's frame. Every coordinate is finite, and `min` lies
/// below `max` on each axis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space {
    /// The corner with the least coordinates.
    pub min: [f64; 3],
    /// The corner with the greatest coordinates.
    pub max: [f64; 3],
}

impl Space {
    /// Whether a point lies inside.
    #[must_use]
    pub fn contains(&self, point: [f64; 3]) -> bool {
        (0..3).all(|axis| self.min[axis] <= point[axis] && point[axis] <= self.max[axis])
    }

    /// Whether the two have more than a face in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        (0..3).all(|axis| self.min[axis] < other.max[axis] && other.min[axis] < self.max[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_holds_its_faces_and_two_rooms_with_one_wall_do_not_overlap() {
        let room = |x: f64| Space {
            min: [x, 0.0, 0.0],
            max: [x + 4.0, 3.0, 2.5],
        };
        assert!(room(0.0).contains([4.0, 0.0, 2.5]));
        assert!(!room(0.0).contains([4.1, 0.0, 2.5]));
        assert!(!room(0.0).overlaps(&room(4.0)));
        assert!(room(0.0).overlaps(&room(3.9)));
    }
}
