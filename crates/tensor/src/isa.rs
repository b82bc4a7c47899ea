//! Which instruction set the kernels run on: detected once, lowered on request.

use std::fmt;

/// An instruction-set path. Holding one is proof that this CPU runs it, because only
/// [`Isa::detect`] and [`Isa::available`] make them; kernels rely on that for their `unsafe` calls.
///
/// Results are bit-identical for any thread count within one path, not across paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Path);

/// The path behind an [`Isa`], for `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Plain Rust, eight lanes that the compiler may vectorise.
    Portable,
    /// NEON, eight lanes in two registers.
    Neon,
    /// AVX2 + FMA, eight lanes.
    Avx2,
    /// AVX-512 F/BW/DQ/VL, sixteen lanes.
    Avx512,
    /// AVX-512 and `vdpbf16ps` for bf16 products.
    Avx512Bf16,
}

/// The value of `SMOLT_CPU` names no path, or one this CPU lacks.
#[derive(Debug, thiserror::Error)]
#[error("SMOLT_CPU={asked}: this CPU offers {offered}; unset it or choose one of these")]
pub struct UnknownIsa {
    asked: String,
    offered: String,
}

impl Isa {
    /// The best path of this CPU, or the one named by the environment variable `SMOLT_CPU`.
    pub fn detect() -> Result<Isa, UnknownIsa> {
        let available = Isa::available();
        match std::env::var("SMOLT_CPU") {
            Err(_) => Ok(available[available.len() - 1]),
            Ok(asked) => {
                available.iter().copied().find(|isa| isa.to_string() == asked).ok_or_else(|| UnknownIsa {
                    offered: available.iter().map(Isa::to_string).collect::<Vec<_>>().join(", "),
                    asked,
                })
            }
        }
    }

    /// Every path this CPU runs, slowest first. Never empty.
    pub fn available() -> Vec<Isa> {
        let mut paths = vec![Isa(Path::Portable)];
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        paths.push(Isa(Path::Neon));
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") && has!("bmi2") {
                paths.push(Isa(Path::Avx2));
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                    paths.push(Isa(Path::Avx512));
                    if has!("avx512bf16") {
                        paths.push(Isa(Path::Avx512Bf16));
                    }
                }
            }
        }
        paths
    }

    /// The path of plain Rust, which every CPU runs.
    pub const fn portable() -> Isa {
        Isa(Path::Portable)
    }

    /// The path to match on.
    pub const fn path(self) -> Path {
        self.0
    }

    /// Whether bf16 products run on hardware; elsewhere bf16 operands are widened to fp32 first.
    pub const fn has_bf16(self) -> bool {
        matches!(self.0, Path::Avx512Bf16)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Path::Portable => "portable",
            Path::Neon => "neon",
            Path::Avx2 => "avx2",
            Path::Avx512 => "avx512",
            Path::Avx512Bf16 => "avx512bf16",
        })
    }
}
