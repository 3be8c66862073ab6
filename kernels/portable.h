// The only file that knows which compiler runs: NVRTC for a GPU, or the host's C++ compiler for a CPU.
//
// KERNEL(name, Structure) { FOR_EACH(i, count) { ... continue; ... } } is one entry point over `const Structure& args`,
// one of the structs of arguments.h. On a GPU it is a __global__ function with a grid-stride loop. On a CPU it becomes
// `launch_<name>`, whose threads share the indices in chunks of CHUNK; it returns null, or the text of an error.
//
// SLOT(slots) is the index of a place for partial sums: on a CPU each chunk has its own, so that the sums do not depend
// on the number of threads. LANES numbers are computed at once where compilers vectorise a loop; load_pair reads two
// neighbours, on a CPU in one go. Floats are never contracted, so that both compilers round alike.
//
// Peers are the threads of a warp that add to the same row of sums, of which the first adds for all: find_peers, then
// sum_of_peers, then add_four in the one that is_first. On a CPU every thread is alone.
#pragma once

#ifndef ADOP_REAL
#define ADOP_REAL float
#endif
typedef ADOP_REAL real;
typedef long long int64;
typedef unsigned char byte;
struct Pair {
    real left, right;
};

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
#define METHOD __device__ __forceinline__
#define KERNEL(name, Structure) extern "C" __global__ void name(Structure args)
#define UNROLL _Pragma("unroll")
#define LANES 1
#define ROLLED _Pragma("unroll 1")
#define SUM_LOOP(...) ROLLED
#define ANY_LOOP(...) ROLLED
#define LANE_LOOP
#define FOR_EACH(i, count)                                                                 \
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x, end_ = (count); i < end_; \
         i += (int64)gridDim.x * blockDim.x)
#define FOR_EACH_PIXEL(x, y, columns, rows)                                                                    \
    for (int64 i_ = (int64)blockIdx.x * blockDim.x + threadIdx.x, end_ = (int64)(columns) * (rows); i_ < end_; \
         i_ += (int64)gridDim.x * blockDim.x)                                                                  \
        for (int64 y = i_ / (columns), once_ = 1; once_; once_ = 0)                                            \
            for (int x = (int)(i_ - y * (columns)); once_; once_ = 0)
#define FOR_EACH_PIXEL_SUM(x, y, columns, rows, ...) FOR_EACH_PIXEL (x, y, columns, rows)
#define FOR_EACH_PIXEL_IN_TURN(x, y, columns, rows) FOR_EACH_PIXEL (x, y, columns, rows)
#define SLOT(slots) (((int64)blockIdx.x * blockDim.x + threadIdx.x) % (slots))

DEVICE Pair load_pair(const real* address) { return {address[0], address[1]}; }
DEVICE float float_of_bits(int bits) { return __int_as_float(bits); }
DEVICE int bits_of_float(float value) { return __float_as_int(value); }
DEVICE void atomic_add(real* address, real value) { atomicAdd(address, value); }
DEVICE void add_to_slot(real* address, real value) { atomicAdd(address, value); }
DEVICE void add_single_threaded(real* address, real value) { atomicAdd(address, value); }
DEVICE real load(const real* address) { return *(const volatile real*)address; }
// Positive floats have the order of their bits.
DEVICE void atomic_min(float* address, float value) { atomicMin((int*)address, __float_as_int(value)); }
DEVICE void atomic_min(double* address, double value) { atomicMin((int64*)address, __double_as_longlong(value)); }

// The warp's lanes that add to the same place at the same time, as bits, and how many of them come before this one.
struct Peers {
    unsigned adding, same;  // all lanes that add, and those of them that add to the same place
    int lane, before;
};
DEVICE Peers find_peers(const real* place) {
    const int lane = threadIdx.x % 32;
    const unsigned adding = __activemask(), same = __match_any_sync(adding, (unsigned long long)place);
    return {adding, same, lane, __popc(same & ((1u << lane) - 1))};
}
DEVICE bool is_first(const Peers& peers) { return peers.before == 0; }
DEVICE int count_peers(const Peers& peers) { return __popc(peers.same); }
// Leaves the sum of all peers in the first one. In each round a lane adds the next one's values, and every other one is
// done. Source: Westphal, Voting and Shuffling to Optimize Atomic Operations, 2015.
DEVICE void sum_of_peers(const Peers& peers, real* values) {
    unsigned after = peers.same & ~((2u << peers.lane) - 1);
    for (int place = peers.before; __any_sync(peers.adding, after); place >>= 1) {
        const int next = __ffs(after) - 1;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const real other = __shfl_sync(peers.adding, values[k], next < 0 ? peers.lane : next);
            if (next >= 0) values[k] += other;
        }
        after &= __ballot_sync(peers.adding, place % 2 == 0);
    }
}
// Adds four numbers at an address that is a multiple of theirs.
DEVICE void add_four(real* address, const real* values) {
#if __CUDA_ARCH__ >= 900
    if (sizeof(real) == 4) {
        asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(address)),
                     "f"((float)values[0]), "f"((float)values[1]), "f"((float)values[2]), "f"((float)values[3])
                     : "memory");
        return;
    }
#endif
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (values[k] != 0) atomicAdd(address + k, values[k]);
}

#else

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <vector>
#if defined(ADOP_STD_THREADS) || !defined(_OPENMP)
#include <thread>
#else
#include <omp.h>
#endif

using std::abs;
using std::atan2;
using std::exp;
using std::floor;
using std::sqrt;

#define DEVICE static inline __attribute__((always_inline))
#define METHOD inline __attribute__((always_inline))
static const int64 CHUNK = 4096;
struct IndexRange {
    int64 first, last;
};
static thread_local IndexRange index_range;

// What a kernel throws where it cannot go on; `message` is a string literal.
struct KernelError {
    const char* message;
};

// Runs body and returns null, or the text of the error that it threw: nothing may be thrown through Python's frames.
template <class Body>
static const char* error_of(const Body& body) {
    try {
        body();
    } catch (const KernelError& error) {
        return error.message;
    } catch (const std::bad_alloc&) {
        return "a CPU kernel found too little memory";
    } catch (...) {
        return "a CPU kernel failed with an unknown exception";
    }
    return nullptr;
}

// Calls body(task, worker) for every task, each exactly once, on up to `threads` threads. `worker` counts from 0 to
// threads - 1; calls of one worker follow one another. Throws KernelError where a task threw, after all have ended.
template <class Body>
static void parallel_for(int64 tasks, int threads, const Body& body) {
    std::atomic<const char*> failure(nullptr);
    const auto attempt = [&](int64 task, int worker) {
        const char* error = error_of([&] { body(task, worker); });
        if (error) failure = error;
    };
#if defined(ADOP_STD_THREADS) || !defined(_OPENMP)
    std::atomic<int64> next(0);
    const auto work = [&](int worker) {
        for (int64 task = next++; task < tasks; task = next++) attempt(task, worker);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < std::min<int64>(threads, tasks); ++i) others.emplace_back(work, i);
    work(0);
    for (auto& other : others) other.join();
#else
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && tasks > 1)
    for (int64 task = 0; task < tasks; ++task) attempt(task, omp_get_thread_num());
#endif
    if (failure) throw KernelError{failure};
}

#define KERNEL(name, Structure)                                                             \
    static void name(const Structure& args);                                                \
    extern "C" const char* launch_##name(const Structure* args, int64 count, int threads) { \
        return error_of([&] {                                                               \
            parallel_for((count + CHUNK - 1) / CHUNK, threads, [&](int64 task, int) {       \
                index_range = {task * CHUNK, std::min(count, (task + 1) * CHUNK)};          \
                name(*args);                                                                \
            });                                                                             \
        });                                                                                 \
    }                                                                                       \
    static void name(const Structure& args)
#define FOR_EACH(i, count) \
    for (int64 i = index_range.first, end_ = std::min<int64>(index_range.last, (count)); i < end_; ++i)
// Row by row, so that the inner loop is vectorised: its body must not read what another pixel of it writes.
// FOR_EACH_PIXEL_SUM also names the scalars that the body adds to; their sums have one order, that of the vector's
// lanes. A body that adds to places which pixels share takes FOR_EACH_PIXEL_IN_TURN.
#define PRAGMA(text) _Pragma(#text)
#define UNROLL PRAGMA(GCC unroll 16)
// Before a loop inside a kernel: ROLLED is not unrolled on a GPU, where that would take too many registers. SUM_LOOP is
// not either, and on a CPU it is vectorised: it adds to the scalars that are named. ANY_LOOP is the same for bits.
// LANE_LOOP only is vectorised there: no pass of it may read what another one writes.
#define ROLLED
#define LANE_LOOP PRAGMA(omp simd)
#define LANES 8
#define SUM_LOOP(...) PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define ANY_LOOP(...) PRAGMA(omp simd reduction(| : __VA_ARGS__))
#define FOR_EACH_PIXEL_BY(pragma, x, y, columns, rows)                                                          \
    for (int64 y = index_range.first / (columns), end_ = std::min<int64>(index_range.last, (columns) * (rows)); \
         y * (columns) < end_; ++y)                                                                             \
        for (int64 start_ = std::max<int64>(index_range.first - y * (columns), 0),                              \
                   stop_ = std::min<int64>(columns, end_ - y * (columns)), once_ = 1;                           \
             once_; once_ = 0)                                                                                  \
    pragma for (int x = (int)start_; x < (int)stop_; ++x)
#define FOR_EACH_PIXEL(x, y, columns, rows) FOR_EACH_PIXEL_BY(PRAGMA(omp simd), x, y, columns, rows)
#define FOR_EACH_PIXEL_SUM(x, y, columns, rows, ...) \
    FOR_EACH_PIXEL_BY(PRAGMA(omp simd reduction(+ : __VA_ARGS__)), x, y, columns, rows)
#define FOR_EACH_PIXEL_IN_TURN(x, y, columns, rows) FOR_EACH_PIXEL_BY(, x, y, columns, rows)
#define SLOT(slots) (index_range.first / CHUNK)
// A slot belongs to one chunk, so nothing else writes there.
DEVICE void add_to_slot(real* address, real value) { *address += value; }
// For kernels that are launched on one thread, so that sums over scattered addresses have one order.
DEVICE void add_single_threaded(real* address, real value) { *address += value; }

DEVICE Pair load_pair(const real* address) {
    Pair pair;
    int64 words[sizeof(Pair) / sizeof(int64)];
    std::memcpy(words, address, sizeof words);
    for (int64& word : words) __asm__("" : "+r"(word));  // or compilers gather in vectors, which is slower
    std::memcpy(&pair, words, sizeof pair);
    return pair;
}
DEVICE float float_of_bits(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
DEVICE int bits_of_float(float value) {
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
DEVICE real load(const real* address) {
    real value;
    __atomic_load(address, &value, __ATOMIC_RELAXED);
    return value;
}
DEVICE void atomic_add(real* address, real value) {
    real before = load(address), after;
    do after = before + value;
    while (!__atomic_compare_exchange(address, &before, &after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}
struct Peers {};
DEVICE Peers find_peers(const real*) { return {}; }
DEVICE bool is_first(const Peers&) { return true; }
DEVICE int count_peers(const Peers&) { return 1; }
DEVICE void sum_of_peers(const Peers&, real*) {}
DEVICE void add_four(real* address, const real* values) {
    for (int k = 0; k < 4; ++k) atomic_add(address + k, values[k]);
}
DEVICE void atomic_min(real* address, real value) {
    real before = load(address);
    while (value < before &&
           !__atomic_compare_exchange(address, &before, &value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

#endif
