// The GPU's branch of the rasterizer's kernels on a CPU: a warp is 32 threads, and CUDA's words wait for one another as
// the hardware lets them. For tests.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

using std::abs;
using std::sqrt;

#define __CUDACC__
#define __CUDA_ARCH__ 800
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

static const int LANES_OF_WARP = 32;
static std::mutex mutex;
static std::condition_variable changed;

// What lanes of one mask bring to a word that all of them must reach.
struct Meeting {
    unsigned long long values[LANES_OF_WARP];
    int arrived = 0, left = 0;
};
struct Warp {
    unsigned running, waiting;         // lanes; the others have ended
    unsigned released[LANES_OF_WARP];  // the lanes with which a lane goes on, 0 while it waits
    std::map<unsigned, Meeting> meetings;
    std::mt19937 random;
} static warp;

// Once all lanes wait for __activemask or have ended, some of those that wait go on together: hardware may split them.
static void release_some() {
    if (warp.running || !warp.waiting) return;
    unsigned some = warp.random() % 2 ? warp.waiting : warp.waiting & warp.random();
    if (!some) some = warp.waiting;
    warp.waiting &= ~some, warp.running |= some;
    for (int lane = 0; lane < LANES_OF_WARP; ++lane)
        if (some >> lane & 1) warp.released[lane] = some;
    changed.notify_all();
}
static unsigned lane_bit() { return 1u << threadIdx.x; }

static unsigned __activemask() {
    std::unique_lock<std::mutex> lock(mutex);
    unsigned& released = warp.released[threadIdx.x];
    released = 0, warp.running &= ~lane_bit(), warp.waiting |= lane_bit();
    release_some();
    changed.wait(lock, [&] { return released != 0; });
    return released;
}
// Returns what each lane of the mask has brought, once all of them have come.
static std::vector<unsigned long long> meet(unsigned mask, unsigned long long value) {
    std::unique_lock<std::mutex> lock(mutex);
    const int count = __builtin_popcount(mask);
    changed.wait(lock, [&] { return warp.meetings[mask].arrived < count; });  // the last meeting is over
    Meeting& meeting = warp.meetings[mask];
    meeting.values[threadIdx.x] = value;
    if (++meeting.arrived == count) changed.notify_all();
    changed.wait(lock, [&] { return meeting.arrived == count; });
    const std::vector<unsigned long long> values(meeting.values, meeting.values + LANES_OF_WARP);
    if (++meeting.left == count) meeting.arrived = meeting.left = 0, changed.notify_all();
    return values;
}
template <class Test>
static unsigned lanes_where(unsigned mask, const std::vector<unsigned long long>& values, const Test& test) {
    unsigned found = 0;
    for (int lane = 0; lane < LANES_OF_WARP; ++lane)
        if ((mask >> lane & 1) && test(values[lane])) found |= 1u << lane;
    return found;
}
static unsigned __match_any_sync(unsigned mask, unsigned long long value) {
    return lanes_where(mask, meet(mask, value), [&](unsigned long long other) { return other == value; });
}
static unsigned __ballot_sync(unsigned mask, int test) {
    return lanes_where(mask, meet(mask, test), [](unsigned long long other) { return other != 0; });
}
static int __any_sync(unsigned mask, unsigned test) { return __ballot_sync(mask, test != 0) != 0; }
// The bits of a value as those of another type, the rest of which are zeros.
template <class To, class From>
static To same_bits(From from) {
    To to = 0;
    std::memcpy(&to, &from, std::min(sizeof to, sizeof from));
    return to;
}
template <class Number>
static Number __shfl_sync(unsigned mask, Number value, int lane) {
    return same_bits<Number>(meet(mask, same_bits<unsigned long long>(value))[lane]);
}
static int __popc(unsigned bits) { return __builtin_popcount(bits); }
static int __ffs(unsigned bits) { return __builtin_ffs(bits); }
static float __int_as_float(int bits) { return same_bits<float>(bits); }
static int __float_as_int(float value) { return same_bits<int>(value); }
static long long __double_as_longlong(double value) { return same_bits<long long>(value); }
static std::atomic<int> atomic_additions;
template <class Number>
static void atomicAdd(Number* address, Number value) {
    const std::lock_guard<std::mutex> lock(mutex);
    *address += value, ++atomic_additions;
}
template <class Number>
static void atomicMin(Number* address, Number value) {
    const std::lock_guard<std::mutex> lock(mutex);
    *address = std::min(*address, value);
}

#include "rasterize.cu"

// Runs a kernel over `count` indices as a grid of `blocks` warps, one after the other.
static void run_warps(void (*kernel)(RasterizeArguments), const RasterizeArguments& args, int64 count) {
    const unsigned blocks = (unsigned)std::min<int64>((count + LANES_OF_WARP - 1) / LANES_OF_WARP, 16);
    for (unsigned block = 0; block < blocks; ++block) {
        warp.running = ~0u, warp.waiting = 0, warp.meetings.clear();
        std::vector<std::thread> lanes;
        for (unsigned lane = 0; lane < (unsigned)LANES_OF_WARP; ++lane) {
            lanes.emplace_back([&, lane] {
                threadIdx = {lane}, blockIdx = {block}, blockDim = {(unsigned)LANES_OF_WARP}, gridDim = {blocks};
                kernel(args);
                const std::lock_guard<std::mutex> lock(mutex);
                warp.running &= ~lane_bit();
                release_some();
            });
        }
        for (auto& lane : lanes) lane.join();
    }
}

extern "C" int additions_so_far() { return atomic_additions; }
#define AS_WARPS(name) \
    extern "C" void warps_##name(const RasterizeArguments* args, int64 count) { run_warps(name, *args, count); }
AS_WARPS(raster_clear)
AS_WARPS(raster_depth)
AS_WARPS(raster_blend)
AS_WARPS(raster_normalise)
AS_WARPS(raster_load_gradients)
AS_WARPS(raster_backward_features)
AS_WARPS(raster_backward_uv)
