//! Writes a model with random weights, for checks and measurements that need no trained one:
//! `random_model NETWORK SCALE OUT.safetensors`, with NETWORK as in `wdsr-b-32x16` (block kind,
//! features, blocks).

use std::error::Error;
use std::path::Path;

use wdsr_model::{Model, NetworkConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, scale, path] = arguments.as_slice() else {
        return Err(
            "expected NETWORK SCALE OUT.safetensors, as in wdsr-b-32x16 2 out.safetensors".into(),
        );
    };
    let config = NetworkConfig::from_name(name, scale.parse()?)?;
    Model::random(&config, 1).save(Path::new(path))?;
    Ok(())
}
