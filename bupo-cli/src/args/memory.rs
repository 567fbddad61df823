//! The option that limits a training run's memory.

use bytesize::ByteSize;
use clap::Args;

#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Limit of the estimated peak memory of training, such as 12GiB; batches are reduced to fit [default: 90% of the device's
    /// free memory, if known]
    #[arg(long, value_name = "BYTES", value_parser = parse_limit)]
    pub memory_limit: Option<ByteSize>,
}

fn parse_limit(text: &str) -> Result<ByteSize, String> {
    let limit: ByteSize = text.parse().map_err(|reason| format!("{reason}; write a size like 12GiB or 500MB"))?;
    if limit.as_u64() == 0 {
        return Err("the limit must be above 0; write a size like 12GiB or 500MB".into());
    }
    Ok(limit)
}
